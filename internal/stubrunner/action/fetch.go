// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/service"
)

// maxDepth is GitHub's limit on composite actions within composite actions.
const maxDepth = 9

// Fetcher downloads the actions of a job.
type Fetcher struct {
	// Client sends the requests.
	Client *http.Client
	// Dir is the folder of all actions, <work>/_actions.
	Dir string
	// Launch resolves actions; nil uses the tarball endpoint at APIURL.
	Launch *service.Launch
	// APIURL is the base of the REST API, without a slash at its end.
	APIURL string
	// Token is the job's GitHub token.
	Token string
	// Secret is told the tokens that come with archives; nil is allowed.
	Secret func(string)
	// Output takes lines for the step's log.
	Output func(string)

	resolved map[string]service.ActionInfo
}

// Path returns the folder of a downloaded action.
func (f *Fetcher) Path(ref message.Reference) string {
	return filepath.Join(f.Dir, filepath.FromSlash(ref.Name), filepath.FromSlash(ref.Ref), filepath.FromSlash(ref.Path))
}

// Prepare downloads the actions that the steps use, and those that these use in turn. Actions in the workspace are left
// for the moment they run.
func (f *Fetcher) Prepare(ctx context.Context, steps []message.Step) error {
	return f.prepare(ctx, steps, 0)
}

func (f *Fetcher) prepare(ctx context.Context, steps []message.Step, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("composite action depth exceeded max depth %d", maxDepth)
	}
	var wanted []message.Reference
	for _, s := range steps {
		if s.Reference.Type == message.SourceRepository && !s.Reference.Local() {
			if !filepath.IsLocal(filepath.Join(s.Reference.Name, s.Reference.Ref, s.Reference.Path)) ||
				strings.Count(s.Reference.Name, "/") != 1 || strings.Contains(s.Reference.String(), "..") {
				return fmt.Errorf("'%s' is not an action", s.Reference)
			}
			wanted = append(wanted, s.Reference)
		}
	}
	if err := f.resolve(ctx, wanted); err != nil {
		return err
	}
	for _, ref := range wanted {
		if err := f.download(ctx, f.resolved[key(ref)]); err != nil {
			return err
		}
		manifest, err := Load(f.Path(ref))
		if err != nil {
			return err
		}
		if err := f.prepare(ctx, manifest.Steps, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func key(ref message.Reference) string { return ref.Name + "@" + ref.Ref }

// resolve asks where the archives of actions not asked for yet are.
func (f *Fetcher) resolve(ctx context.Context, refs []message.Reference) error {
	if f.resolved == nil {
		f.resolved = map[string]service.ActionInfo{}
	}
	var requests []service.ActionRequest
	asked := map[string]bool{}
	for _, r := range refs {
		if _, known := f.resolved[key(r)]; !known && !asked[key(r)] {
			asked[key(r)] = true
			requests = append(requests, service.ActionRequest{Action: r.Name, Version: r.Ref, Path: r.Path})
		}
	}
	if len(requests) == 0 {
		return nil
	}
	f.Output("Getting action download info")
	if f.Launch == nil {
		for _, r := range requests {
			f.resolved[r.Action+"@"+r.Version] = service.ActionInfo{
				Name: r.Action, Version: r.Version, ResolvedName: r.Action, ResolvedSHA: r.Version,
				TarURL: f.APIURL + "/repos/" + r.Action + "/tarball/" + url.PathEscape(r.Version),
			}
		}
		return nil
	}
	infos, err := f.Launch.Resolve(ctx, requests)
	if err != nil {
		return err
	}
	for k := range asked {
		info, ok := infos[k]
		if !ok {
			return fmt.Errorf("missing download info for %s", k)
		}
		if f.Secret != nil {
			f.Secret(info.Authentication.Token)
		}
		f.resolved[k] = info
	}
	return nil
}

// download unpacks one archive into its folder, which appears only when whole.
func (f *Fetcher) download(ctx context.Context, info service.ActionInfo) error {
	dest := filepath.Join(f.Dir, filepath.FromSlash(info.Name), filepath.FromSlash(info.Version))
	if !strings.HasPrefix(dest, f.Dir+string(filepath.Separator)) {
		return fmt.Errorf("'%s@%s' is not an action", info.Name, info.Version)
	}
	if _, err := os.Stat(dest + ".completed"); err == nil {
		return nil
	}
	f.Output(fmt.Sprintf("Download action repository '%s@%s' (SHA:%s)", info.Name, info.Version, info.ResolvedSHA))
	temp := filepath.Join(f.Dir, "_temp_"+uuid.NewString())
	staging := filepath.Join(temp, "_staging")
	if err := os.MkdirAll(staging, 0o755); err != nil { //nolint:gosec // As the real runner's folders.
		return fmt.Errorf("creating action folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	archive := filepath.Join(temp, uuid.NewString()+".tar.gz")
	if err := f.save(ctx, info, archive); err != nil {
		return err
	}
	if err := unpack(archive, staging); err != nil {
		return fmt.Errorf("unpacking action %s@%s: %w", info.Name, info.Version, err)
	}
	entries, err := os.ReadDir(staging)
	if err != nil {
		return fmt.Errorf("reading action archive: %w", err)
	}
	if len(entries) != 1 || !entries[0].IsDir() {
		return fmt.Errorf("the archive of %s@%s contains %d entries, not one folder", info.Name, info.Version, len(entries))
	}
	if err := os.RemoveAll(dest); err != nil {
		return fmt.Errorf("clearing action folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil { //nolint:gosec // As the real runner's folders.
		return fmt.Errorf("creating action folder: %w", err)
	}
	if err := os.Rename(filepath.Join(staging, entries[0].Name()), dest); err != nil {
		return fmt.Errorf("moving action: %w", err)
	}
	stamp := []byte(time.Now().UTC().Format(time.RFC3339))
	return os.WriteFile(dest+".completed", stamp, 0o644) //nolint:gosec // As the real runner's file.
}

// maxArchive bounds the size of an archive, packed and unpacked.
const maxArchive = 1 << 30

func (f *Fetcher) save(ctx context.Context, info service.ActionInfo, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, info.TarURL, nil)
	if err != nil {
		return fmt.Errorf("making download: %w", err)
	}
	req.Header.Set("User-Agent", service.UserAgent())
	secret := info.Authentication.Token
	if secret == "" {
		secret = f.Token
	}
	if secret != "" {
		basic := base64.StdEncoding.EncodeToString([]byte("x-access-token:" + secret))
		req.Header.Set("Authorization", "Basic "+basic)
	}
	resp, err := f.Client.Do(req)
	if err != nil {
		return fmt.Errorf("downloading action: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("downloading action: '%s' answered %d", info.TarURL, resp.StatusCode)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // A fresh name of our own.
	if err != nil {
		return fmt.Errorf("saving action: %w", err)
	}
	n, err := io.Copy(file, io.LimitReader(resp.Body, maxArchive+1))
	if err == nil && n > maxArchive {
		err = errors.New("the archive is too large")
	}
	return errors.Join(err, file.Close())
}
