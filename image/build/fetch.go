// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/image"
)

// Download is one file to be had from any of several addresses, none of which is trusted: the digest decides.
type Download struct {
	What      string       // as people call it
	Addresses []string     // asked in this order; the first is where the file belongs
	SHA256    image.SHA256 // of the whole file
	Size      int64        // bytes
}

const (
	connections = 4                // at a time, to all servers together
	tries       = 3                // of each address, unless it says that it does not have the file
	patience    = 60 * time.Second // without a byte
)

// fetcher puts files into a folder under the names of their digests.
type fetcher struct {
	folder string
	client *http.Client
	told   func(done, all int64) // how many bytes are there; called from several goroutines
}

// newFetcher makes the folder. Proxies are those of the environment, else apt's.
func newFetcher(ctx context.Context, folder string, told func(done, all int64)) (*fetcher, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // nothing in the cache is secret.
		return nil, err
	}
	transport := &http.Transport{
		Proxy: aptProxy(ctx), DialContext: (&net.Dialer{Timeout: patience}).DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: patience, ResponseHeaderTimeout: patience,
	}
	transport.RegisterProtocol("file", http.NewFileTransport(http.Dir("/"))) //nolint:gosec // archives may lie in folders; we name them, not a client.
	return &fetcher{folder: folder, client: &http.Client{Transport: transport}, told: told}, nil
}

// aptProxy is the proxies of the environment; where they name none, the one that apt was told to use.
func aptProxy(ctx context.Context) func(*http.Request) (*url.URL, error) {
	proxies := map[string]string{}
	for _, scheme := range []string{"http", "https"} {
		out, err := run(ctx, tool{name: "apt-config", args: []string{"dump", "--format", "%v%n", "Acquire::" + scheme + "::Proxy"}})
		if value, _, _ := strings.Cut(string(out), "\n"); err == nil && value != "DIRECT" {
			proxies[scheme] = value
		}
	}
	return func(r *http.Request) (*url.URL, error) {
		if u, err := http.ProxyFromEnvironment(r); u != nil || err != nil || proxies[r.URL.Scheme] == "" {
			return u, err
		}
		return url.Parse(proxies[r.URL.Scheme])
	}
}

// path is where a file is once it was fetched.
func (f *fetcher) path(digest image.SHA256) string { return filepath.Join(f.folder, digest.String()) }

// fetch gets what is not there yet. What was begun by an earlier call is continued.
func (f *fetcher) fetch(ctx context.Context, downloads []Download) error {
	defer f.client.CloseIdleConnections()
	count := &counter{told: f.told}
	var missing []Download
	for _, d := range downloads {
		count.all += d.Size
		switch err := touch(f.path(d.SHA256)); {
		case err == nil:
			count.done.Add(d.Size)
		case errors.Is(err, os.ErrNotExist):
			missing = append(missing, d)
		default:
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connections)
	for _, d := range missing {
		group.Go(func() error { return f.one(ctx, d, count) })
	}
	return group.Wait()
}

// one asks the addresses in turn.
func (f *fetcher) one(ctx context.Context, d Download, count *counter) error {
	var faults error
	gone := false
	for i, address := range d.Addresses {
		err := f.from(ctx, address, d, count)
		if err == nil || ctx.Err() != nil {
			return err
		}
		gone = gone || i == 0 && errors.Is(err, errAbsent)
		faults = errors.Join(faults, fmt.Errorf("%s: %w", address, err))
	}
	if gone {
		return &RemoteError{&GoneError{What: d.What, Err: faults}}
	}
	return &RemoteError{fmt.Errorf("fetching %s: %w", d.What, faults)}
}

var errAbsent = errors.New("the server does not have it")

// from tries one address.
func (f *fetcher) from(ctx context.Context, address string, d Download, count *counter) (err error) {
	for range tries {
		var begun int64
		if begun, err = f.once(ctx, address, d, count); err == nil || ctx.Err() != nil || errors.Is(err, errAbsent) {
			return err
		}
		count.add(-begun)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return err
}

// once continues the file behind what is there, or begins it. On failure it says how many bytes it has counted.
func (f *fetcher) once(ctx context.Context, address string, d Download, count *counter) (counted int64, err error) {
	part := f.path(d.SHA256) + ".part"
	out, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // nothing in the cache is secret.
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	h := sha256.New()
	have, err := io.Copy(h, io.LimitReader(out, d.Size+1))
	if err != nil {
		return 0, err
	}
	if have >= d.Size { // it was not renamed: it is not the file
		h.Reset()
		have = 0
	}
	body, have, err := f.open(ctx, address, have)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	if have == 0 {
		h.Reset()
	}
	if _, err := out.Seek(have, io.SeekStart); err != nil {
		return 0, err
	}
	if err := out.Truncate(have); err != nil {
		return 0, err
	}
	count.add(have)
	n, err := io.Copy(io.MultiWriter(out, h, count), io.LimitReader(body, d.Size-have+1))
	counted = have + n
	if err != nil {
		return counted, err
	}
	if got := image.SHA256(h.Sum(nil)); counted != d.Size || got != d.SHA256 {
		return counted, errors.Join(fmt.Errorf("want %d bytes with digest %s, got %d with %s", d.Size, d.SHA256, counted, got), os.Remove(part))
	}
	return counted, os.Rename(part, f.path(d.SHA256))
}

// open asks for the bytes from an offset on. A server may answer with all of them: have is then 0.
func (f *fetcher) open(ctx context.Context, address string, from int64) (body io.ReadCloser, have int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		cancel()
		return nil, 0, err
	}
	if from > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	answer, err := f.client.Do(request) //nolint:bodyclose // the caller closes what it is given; else it is closed below.
	if err != nil {
		cancel()
		return nil, 0, err
	}
	body = newWatched(answer.Body, cancel)
	switch {
	case answer.StatusCode == http.StatusOK:
		return body, 0, nil
	case answer.StatusCode == http.StatusPartialContent && from > 0 && strings.HasPrefix(answer.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", from)):
		return body, from, nil
	case answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusGone:
		err = errAbsent
	default:
		err = fmt.Errorf("the server answers %s", answer.Status)
	}
	return nil, 0, errors.Join(err, body.Close())
}
