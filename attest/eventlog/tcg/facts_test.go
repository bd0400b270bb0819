// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
)

// account matches a log with all the registers that it extends.
func account(t testing.TB, k *book) *tcg.Account {
	t.Helper()
	if k.offset == 1 {
		return match(t, parse(t, tcg.ParseCC, k.bytes()), tcg.SHA384, k.quoted(tcg.SHA384))
	}
	return match(t, parse(t, tcg.ParseTPM, k.bytes()), tcg.SHA256, k.quoted(tcg.SHA256))
}

func TestFacts(t *testing.T) {
	t.Parallel()
	f := account(t, machine()).Facts()
	if f.SecureBoot != tcg.SecureBootOn || f.Firmware != "firmware 1" || !f.ExitBootServices {
		t.Errorf("Secure Boot %s, firmware %q, left %v", f.SecureBoot, f.Firmware, f.ExitBootServices)
	}
	if len(f.Keys) != 2 || f.Keys[0].Name != "PK" || string(f.Keys[0].Value) != "pk" || f.Keys[1].Name != "db" ||
		!f.Keys[0].BeforeSeparator || f.Keys[0].Vendor.String() != "8be4df61-93ca-11d2-aa0d-00e098032b8c" {
		t.Errorf("keys %+v", f.Keys)
	}
	if len(f.CommandLines) != 1 || f.CommandLines[0].Text != "/vmlinuz ro" || f.CommandLines[0].By != "grub" {
		t.Errorf("command lines %+v", f.CommandLines)
	}
	if len(f.ACPI) != 1 || !bytes.Equal(f.ACPI[0].Digest, digest(tcg.SHA256, []byte("table loader"))) {
		t.Errorf("ACPI %+v", f.ACPI)
	}
	if len(f.Images) != 1 || !bytes.Equal(f.Images[0].Digest, digest(tcg.SHA256, []byte("shim"))) || f.Images[0].Label != "EV_EFI_BOOT_SERVICES_APPLICATION" {
		t.Errorf("images %+v", f.Images)
	}
	if len(f.Linux) != 1 || f.Linux[0].Label != "initrd" || !bytes.Equal(f.Linux[0].Digest, digest(tcg.SHA256, []byte("initrd"))) {
		t.Errorf("Linux %+v", f.Linux)
	}
	if len(f.Separators) != 8 || len(f.Sections) != 0 || len(f.Runtime) != 0 {
		t.Errorf("separators %v, sections %v, runtime %v", f.Separators, f.Sections, f.Runtime)
	}
	if len(f.Variables) != 3 {
		t.Fatalf("variables %+v", f.Variables)
	}
	order, option, authority := f.Variables[0], f.Variables[1], f.Variables[2]
	if order.Name != "" || order.Vendor != (tcg.GUID{}) || !bytes.Equal(order.Value, []byte{1, 0}) || !order.BeforeSeparator {
		t.Errorf("BootOrder, whose name is not covered: %+v", order)
	}
	if option.Name != "Boot0001" || string(option.Value) != "option" {
		t.Errorf("Boot0001, whose name is covered: %+v", option)
	}
	if authority.BeforeSeparator || authority.Name != "db" || authority.Type != tcg.VariableAuthority {
		t.Errorf("authority %+v", authority)
	}
}

// TestProofs runs each convention by which a digest follows from an event's data.
func TestProofs(t *testing.T) {
	t.Parallel()
	wide := append(utf16le(".linux"), 0, 0)
	tagged := append([]byte{1, 2, 3, 4, 5, 0, 0, 0}, "hello"...)
	for name, c := range map[string]struct {
		typ            tcg.Type
		measured, data string
		want           tcg.Proof
	}{
		"action":                 {tcg.EFIAction, "Calling", "Calling", tcg.WholeData},
		"action with NUL":        {tcg.EFIAction, "Calling", "Calling\x00", tcg.WithoutNUL},
		"GPT":                    {tcg.GPTEvent, "EFI PART", "EFI PART", tcg.WholeData},
		"compact hash":           {tcg.CompactHash, "data", "data", tcg.WholeData},
		"compact hash of other":  {tcg.CompactHash, "other", "\x01\x00\x00\x00", tcg.DigestOnly},
		"tables by pointer":      {tcg.HandoffTables2, "table", "pointer", tcg.DigestOnly},
		"image":                  {tcg.BootServicesApp, "image", "path", tcg.DigestOnly},
		"file of GRUB":           {tcg.IPL, "content", "/boot/vmlinuz\x00", tcg.DigestOnly},
		"command of GRUB":        {tcg.IPL, "set a=b", "grub_cmd: set a=b\x00", tcg.AfterLabel},
		"command with NUL":       {tcg.IPL, "set a=b\x00", "grub_cmd: set a=b\x00", tcg.AfterLabel},
		"module of GRUB":         {tcg.IPL, "initrd", "module_cmdline: initrd\x00", tcg.AfterLabel},
		"command of old GRUB":    {tcg.IPL, "set a=b\x00", "grub_cmd set a=b\x00", tcg.AfterLabel},
		"kernel of old GRUB":     {tcg.IPL, "vmlinuz ro", "grub_kernel_cmdline vmlinuz ro\x00", tcg.AfterLabel},
		"cut string":             {tcg.IPL, "r\x00o\x00\x00\x00", "r\x00o\x00\x00", tcg.CutString},
		"cut string of others":   {tcg.CompactHash, "r\x00o\x00\x00\x00", "r\x00o\x00\x00", tcg.DigestOnly},
		"another label":          {tcg.IPL, "set a=b", "cmd: set a=b\x00", tcg.DigestOnly},
		"label of another type":  {tcg.EFIAction, "set a=b", "grub_cmd: set a=b\x00", tcg.DigestOnly},
		"tag":                    {tcg.EventTag, "hello", string(tagged), tcg.TaggedData},
		"tag of another length":  {tcg.EventTag, "hello", string(tagged) + "x", tcg.DigestOnly},
		"tag with NUL":           {tcg.EventTag, "hell", string(tagged), tcg.DigestOnly},
		"short tag":              {tcg.EventTag, "x", "1234567", tcg.DigestOnly},
		"section":                {tcg.IPL, ".linux\x00", string(wide), tcg.SectionName},
		"section without NUL":    {tcg.IPL, ".linux", string(wide), tcg.DigestOnly},
		"section of other chars": {tcg.IPL, ".l/nux\x00", string(utf16le(".l/nux\x00")), tcg.DigestOnly},
		"boot variable":          {tcg.VariableBoot, "v", string(variable(global, "Boot0001", []byte("v"))), tcg.VariableOnly},
		"variable too long":      {tcg.VariableBoot, "vx", string(variable(global, "B", []byte("v"))) + "x", tcg.DigestOnly},
		"variable too short":     {tcg.VariableBoot, "v", string(variable(global, "B", []byte("v"))[:30]), tcg.DigestOnly},
		"variable's odd name":    {tcg.VariableBoot, "v", strings.Replace(string(variable(global, "B", []byte("v"))), "B\x00", "\x00\xd8", 1), tcg.DigestOnly},
		"variable's NUL":         {tcg.VariableBoot, "v", string(variable(global, "B\x00", []byte("v"))), tcg.DigestOnly},
		"empty data":             {tcg.NonhostInfo, "", "", tcg.WholeData},
		"unknown type":           {0x12345, "data", "data", tcg.WholeData},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := account(t, newTPM().event(1, c.typ, []byte(c.measured), []byte(c.data)))
			e := a.Events()[0]
			if e.Proof != c.want {
				t.Fatalf("want %s, got %s", c.want, e.Proof)
			}
			if c.want == tcg.DigestOnly && e.Content != nil || c.want != tcg.DigestOnly && string(e.Content) != c.measured {
				t.Errorf("content %q", e.Content)
			}
		})
	}
}

func TestSecureBootStates(t *testing.T) {
	t.Parallel()
	state := func(v []byte) *book {
		return newCC().same(0, tcg.VariableDriverConfig, variable(global, "SecureBoot", v))
	}
	end := func(k *book) *book { return k.same(0, tcg.Separator, noError) }
	for name, c := range map[string]struct {
		k    *book
		want tcg.SecureBoot
	}{
		"on":                    {end(state([]byte{1})), tcg.SecureBootOn},
		"off":                   {end(state([]byte{0})), tcg.SecureBootOff},
		"absent":                {end(state(nil)), tcg.SecureBootAbsent},
		"another value":         {end(state([]byte{2})), tcg.SecureBootUnknown},
		"not measured":          {end(newCC()), tcg.SecureBootUnknown},
		"no separator":          {state([]byte{1}), tcg.SecureBootUnknown},
		"another register":      {newCC().same(1, tcg.VariableDriverConfig, variable(global, "SecureBoot", []byte{1})).same(1, tcg.Separator, noError), tcg.SecureBootUnknown},
		"another vendor":        {end(newCC().same(0, tcg.VariableDriverConfig, variable(database, "SecureBoot", []byte{1}))), tcg.SecureBootUnknown},
		"separator of ones":     {state([]byte{1}).same(0, tcg.Separator, []byte{0xff, 0xff, 0xff, 0xff}), tcg.SecureBootOn},
		"separator of all else": {state([]byte{1}).same(0, tcg.Separator, []byte{2, 0, 0, 0}), tcg.SecureBootUnknown},
		"digest without data":   {end(newCC().event(0, tcg.VariableDriverConfig, variable(global, "SecureBoot", []byte{1}), nil)), tcg.SecureBootOn},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := account(t, c.k).Facts().SecureBoot; got != c.want {
				t.Errorf("want %s, got %s", c.want, got)
			}
		})
	}
}

// TestUnifiedKernelImage measures an image as systemd-stub does, with a TPM and in a confidential VM.
func TestUnifiedKernelImage(t *testing.T) {
	t.Parallel()
	section := func(k *book, register int, name, content string) {
		wide := append(utf16le(name), 0, 0)
		k.event(register, tcg.IPL, []byte(name+"\x00"), wide)
		k.event(register, tcg.IPL, []byte(content), wide)
	}
	line := append(utf16le("quiet ro ünï"), 0, 0)
	for name, c := range map[string]struct {
		k             *book
		image, config int
	}{"TPM": {newTPM(), 11, 12}, "CC": {newCC(), 2, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			section(c.k, c.image, ".linux", "kernel")
			section(c.k, c.image, ".initrd", "initrd")
			section(c.k, c.image, ".cmdline", "ro")
			section(c.k, c.image, ".toolong1", "no name of a section: those have eight characters")
			c.k.same(c.config, tcg.IPL, line)
			a := account(t, c.k)
			f := a.Facts()
			if len(f.Sections) != 3 || f.Sections[0].Name != ".linux" || f.Sections[1].Name != ".initrd" ||
				!bytes.Equal(f.Sections[1].Digest, digest(a.Algorithm(), []byte("initrd"))) || f.Sections[1].Register != c.image {
				t.Errorf("sections %+v", f.Sections)
			}
			if len(f.CommandLines) != 1 || f.CommandLines[0].Text != "quiet ro ünï" || f.CommandLines[0].By != "systemd" {
				t.Errorf("command lines %+v", f.CommandLines)
			}
		})
	}
}

// TestCommandLineRegisters finds command lines where the loaders put them, and nowhere else.
func TestCommandLineRegisters(t *testing.T) {
	t.Parallel()
	wide := append(utf16le("ro"), 0, 0)
	lines := func(k *book, register int) int {
		k.event(register, tcg.IPL, []byte("ro"), []byte("kernel_cmdline: ro\x00")).same(register, tcg.IPL, wide)
		return len(account(t, k).Facts().CommandLines)
	}
	for register, want := range map[int]int{4: 0, 8: 2, 9: 0, 11: 0, 12: 1, 13: 0} {
		if got := lines(newTPM(), register); got != want {
			t.Errorf("PCR %d: want %d, got %d", register, want, got)
		}
	}
	for register, want := range map[int]int{0: 0, 1: 0, 2: 2, 3: 0} {
		if got := lines(newCC(), register); got != want {
			t.Errorf("RTMR %d: want %d, got %d", register, want, got)
		}
	}
}

func TestExitBootServices(t *testing.T) {
	t.Parallel()
	const invoked, returned = "Exit Boot Services Invocation", "Exit Boot Services Returned with Success"
	const failed = "Exit Boot Services Returned with Failure"
	for name, c := range map[string]struct {
		actions []string
		want    bool
	}{
		"both":        {[]string{invoked, returned}, true},
		"after fault": {[]string{invoked, failed, invoked, returned}, true},
		"only fault":  {[]string{invoked, failed}, false},
		"invoked":     {[]string{invoked}, false},
		"returned":    {[]string{returned}, false},
		"other order": {[]string{returned, invoked}, false},
	} {
		k := newTPM()
		for _, a := range c.actions {
			k.same(5, tcg.EFIAction, []byte(a))
		}
		if got := account(t, k).Facts().ExitBootServices; got != c.want {
			t.Errorf("%s: want %v", name, c.want)
		}
	}
}

func signatureList(header, entry uint32, body []byte) []byte {
	b := append(bytes.Repeat([]byte{7}, 16), le.AppendUint32(nil, uint32(28+len(body)))...)
	return append(le.AppendUint32(le.AppendUint32(b, header), entry), body...)
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	hash := bytes.Repeat([]byte{9}, 16+32)
	good := signatureList(0, 48, slices.Concat(hash, hash))
	v := tcg.Variable{Value: slices.Concat(good, signatureList(0, 20, []byte("the owner's sixteen ")))}
	list, err := v.Signatures()
	if err != nil || len(list) != 3 || len(list[0].Data) != 32 || string(list[2].Data) != "een " || list[0].Type[0] != 7 {
		t.Fatalf("%+v, %v", list, err)
	}
	for name, value := range map[string][]byte{
		"short":        good[:27],
		"cut":          good[:len(good)-1],
		"more":         append(bytes.Clone(good), 0),
		"header":       signatureList(16, 48, slices.Concat(make([]byte, 16), hash)),
		"entry zero":   signatureList(0, 0, hash),
		"entry small":  signatureList(0, 16, hash),
		"entry large":  signatureList(0, 49, hash),
		"entry uneven": signatureList(0, 40, hash),
		"size small":   append(append(bytes.Repeat([]byte{7}, 16), 27, 0, 0, 0), make([]byte, 8)...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tcg.Variable{Value: value}.Signatures()
			refused(t, err, refusal.Malformed)
		})
	}
}
