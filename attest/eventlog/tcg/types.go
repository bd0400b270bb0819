// SPDX-License-Identifier: Apache-2.0

package tcg

import "fmt"

// Type is the type of an event (PFP, section 10.4.1 "Event Types"). No register covers it: it is the log's word.
type Type uint32

// The event types that this package knows by name.
const (
	PrebootCert          Type = 0x00000000
	PostCode             Type = 0x00000001
	NoAction             Type = 0x00000003
	Separator            Type = 0x00000004
	Action               Type = 0x00000005
	EventTag             Type = 0x00000006
	SCRTMContents        Type = 0x00000007
	SCRTMVersion         Type = 0x00000008
	CPUMicrocode         Type = 0x00000009
	PlatformConfigFlags  Type = 0x0000000a
	TableOfDevices       Type = 0x0000000b
	CompactHash          Type = 0x0000000c
	IPL                  Type = 0x0000000d
	IPLPartitionData     Type = 0x0000000e
	NonhostCode          Type = 0x0000000f
	NonhostConfig        Type = 0x00000010
	NonhostInfo          Type = 0x00000011
	OmitBootDeviceEvents Type = 0x00000012
	PostCode2            Type = 0x00000013

	// DstackRuntime is dstack's own type for what its guest measures at run time.
	DstackRuntime Type = 0x08000001

	VariableDriverConfig  Type = 0x80000001
	VariableBoot          Type = 0x80000002
	BootServicesApp       Type = 0x80000003
	BootServicesDriver    Type = 0x80000004
	RuntimeServicesDriver Type = 0x80000005
	GPTEvent              Type = 0x80000006
	EFIAction             Type = 0x80000007
	PlatformFirmwareBlob  Type = 0x80000008
	HandoffTables         Type = 0x80000009
	PlatformFirmwareBlob2 Type = 0x8000000a
	HandoffTables2        Type = 0x8000000b
	VariableBoot2         Type = 0x8000000c
	GPTEvent2             Type = 0x8000000d
	HCRTMEvent            Type = 0x80000010
	VariableAuthority     Type = 0x800000e0
	SPDMFirmwareBlob      Type = 0x800000e1
	SPDMFirmwareConfig    Type = 0x800000e2
	SPDMDevicePolicy      Type = 0x800000e3
	SPDMDeviceAuthority   Type = 0x800000e4
)

// String gives the name that the specification uses, for example EV_SEPARATOR.
func (t Type) String() string {
	name := t.pcName()
	if name == "" {
		name = t.efiName()
	}
	if name == "" {
		return fmt.Sprintf("event type %#08x", uint32(t))
	}
	return name
}

func (t Type) pcName() string {
	names := [...]string{
		PrebootCert: "EV_PREBOOT_CERT", PostCode: "EV_POST_CODE", NoAction: "EV_NO_ACTION", Separator: "EV_SEPARATOR",
		Action: "EV_ACTION", EventTag: "EV_EVENT_TAG", SCRTMContents: "EV_S_CRTM_CONTENTS",
		SCRTMVersion: "EV_S_CRTM_VERSION", CPUMicrocode: "EV_CPU_MICROCODE",
		PlatformConfigFlags: "EV_PLATFORM_CONFIG_FLAGS", TableOfDevices: "EV_TABLE_OF_DEVICES",
		CompactHash: "EV_COMPACT_HASH", IPL: "EV_IPL", IPLPartitionData: "EV_IPL_PARTITION_DATA",
		NonhostCode: "EV_NONHOST_CODE", NonhostConfig: "EV_NONHOST_CONFIG", NonhostInfo: "EV_NONHOST_INFO",
		OmitBootDeviceEvents: "EV_OMIT_BOOT_DEVICE_EVENTS", PostCode2: "EV_POST_CODE2",
	}
	if t < Type(len(names)) {
		return names[t]
	}
	return ""
}

func (t Type) efiName() string {
	switch t {
	case DstackRuntime:
		return "dstack runtime event"
	case VariableDriverConfig:
		return "EV_EFI_VARIABLE_DRIVER_CONFIG"
	case VariableBoot:
		return "EV_EFI_VARIABLE_BOOT"
	case BootServicesApp:
		return "EV_EFI_BOOT_SERVICES_APPLICATION"
	case BootServicesDriver:
		return "EV_EFI_BOOT_SERVICES_DRIVER"
	case RuntimeServicesDriver:
		return "EV_EFI_RUNTIME_SERVICES_DRIVER"
	case GPTEvent:
		return "EV_EFI_GPT_EVENT"
	case EFIAction:
		return "EV_EFI_ACTION"
	case PlatformFirmwareBlob:
		return "EV_EFI_PLATFORM_FIRMWARE_BLOB"
	case HandoffTables:
		return "EV_EFI_HANDOFF_TABLES"
	case PlatformFirmwareBlob2:
		return "EV_EFI_PLATFORM_FIRMWARE_BLOB2"
	case HandoffTables2:
		return "EV_EFI_HANDOFF_TABLES2"
	case VariableBoot2:
		return "EV_EFI_VARIABLE_BOOT2"
	case GPTEvent2:
		return "EV_EFI_GPT_EVENT2"
	case HCRTMEvent:
		return "EV_EFI_HCRTM_EVENT"
	case VariableAuthority:
		return "EV_EFI_VARIABLE_AUTHORITY"
	case SPDMFirmwareBlob:
		return "EV_EFI_SPDM_FIRMWARE_BLOB"
	case SPDMFirmwareConfig:
		return "EV_EFI_SPDM_FIRMWARE_CONFIG"
	case SPDMDevicePolicy:
		return "EV_EFI_SPDM_DEVICE_POLICY"
	case SPDMDeviceAuthority:
		return "EV_EFI_SPDM_DEVICE_AUTHORITY"
	}
	return ""
}
