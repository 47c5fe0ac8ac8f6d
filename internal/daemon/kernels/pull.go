package kernels

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/debian"
	"banger/internal/fetch"
	"banger/internal/vm"
)

// maxModulesFile bounds a tar of modules as it comes, in bytes.
const maxModulesFile = 2 << 30

// Candidate is a kernel of Debian's that can be pulled.
type Candidate struct {
	Release, Package, Version, Suite string
	// Mirror is the archive's address, FetchBytes the size of the package's file.
	Mirror     string
	FetchBytes int64
	// Default says that it is the one that Pull takes where nothing is named.
	Default bool
	// Here is the name of the kernel that was made of it, or empty.
	Here string
}

// Catalog asks the mirror what there is, the newest first; all includes kernels that
// are not made for virtual machines. from says where the mirrors are configured.
func (s *Service) Catalog(ctx context.Context, all, allowOlder bool, p progress.Func) (list []Candidate, from string, err error) {
	p.Send(progress.Report{Phase: "kernel", Detail: "asking the Debian mirror"})
	archive, from, err := s.archive(ctx, allowOlder)
	if err != nil {
		return nil, from, err
	}
	defer archive.Close()
	x := newIndex(archive)
	preferred, err := x.preferred(ctx)
	if err != nil {
		return nil, from, err
	}
	images, err := x.images(ctx)
	if err != nil {
		return nil, from, err
	}
	records, err := s.o.Store.Kernels(ctx)
	if err != nil {
		return nil, from, err
	}
	for _, o := range images {
		if !all && !isCloud(o.release) {
			continue
		}
		here, _ := madeOf(records, o)
		list = append(list, Candidate{
			Release: o.release, Package: o.Name, Version: o.Version, Suite: o.Suite, Mirror: fetch.Redacted(o.URI), FetchBytes: o.Size(),
			Default: o.release == preferred.release, Here: here.Name,
		})
	}
	return list, from, nil
}

// madeOf returns the usable kernel that was made of a package.
func madeOf(records []vm.Kernel, o offered) (vm.Kernel, bool) {
	for _, k := range records {
		same := k.Origin.FileDigest == "sha256:"+o.SHA256() ||
			k.Origin.FileDigest == "" && k.Release == o.release && k.Version == o.Version // recorded by an older banger
		if k.Origin.Kind == vm.OriginDebian && same && onDisk(k) == nil {
			return k, true
		}
	}
	return vm.Kernel{}, false
}

// Pull makes the kernel of Debian's that ref means: a series such as "6.12", a
// release, or a package; the newest of the preferred series for "". One that is here
// is not fetched again. allowOlder takes an index that is older than one seen before.
// Concurrent callers share one run, which is cancelled when the last of them is gone.
func (s *Service) Pull(ctx context.Context, ref string, allowOlder bool, p progress.Func) (Result, error) {
	if ref != "" && !isDebians(ref) {
		return Result{}, errs.New(errs.Invalid, "%q is no kernel of Debian's", ref).
			WithHint("name a series such as 6.12, a release or a package of: banger kernel catalog; or give --url")
	}
	key := fmt.Sprintf("debian %t %s", allowOlder, ref)
	return s.builds.Do(ctx, key, p, func(ctx context.Context, p progress.Func) (Result, error) {
		return s.pull(ctx, ref, allowOlder, p)
	})
}

func (s *Service) pull(ctx context.Context, ref string, allowOlder bool, p progress.Func) (r Result, err error) {
	p.Send(progress.Report{Phase: "kernel", Detail: "finding Debian's cloud kernel"})
	archive, _, err := s.archive(ctx, allowOlder)
	if err != nil {
		return r, err
	}
	defer archive.Close()
	o, err := newIndex(archive).find(ctx, ref)
	if err != nil {
		return r, err
	}
	// Several words may mean one package: it is made once.
	return s.packages.Do(ctx, o.SHA256(), p, func(ctx context.Context, p progress.Func) (Result, error) {
		return s.make(ctx, archive, o, p)
	})
}

// make makes the kernel of a package, unless it is here.
func (s *Service) make(ctx context.Context, archive *debian.Archive, o offered, p progress.Func) (r Result, err error) {
	records, err := s.o.Store.Kernels(ctx)
	if err != nil {
		return r, err
	}
	if k, ok := madeOf(records, o); ok {
		return Result{Kernel: k, Already: true}, nil
	}
	deb, err := archive.Fetch(ctx, o.Package, fetching(p, o.Name, o.Size()))
	if err != nil {
		return r, err
	}
	b, err := s.newBuilder(vm.Origin{
		Kind: vm.OriginDebian, URL: fetch.Redacted(o.URL()), FileDigest: "sha256:" + o.SHA256(),
		Package: o.Name, Suite: o.Suite, IndexDate: o.IndexDate, Key: o.Key,
	}, p)
	if err != nil {
		return r, err
	}
	defer b.close()
	b.k.Name, b.k.Version, b.k.Source = o.release, o.Version, fetch.Redacted(o.URI)+" "+o.Suite
	b.send("unpacking %s", o.Name)
	if err := b.unpackDeb(ctx, deb, o.release); err != nil {
		return r, fmt.Errorf("cannot unpack the kernel %q: %w", o.release, err)
	}
	if r, err = b.finish(ctx); err != nil {
		return r, err
	}
	s.forget(deb)
	return r, nil
}

// forget removes a download of which a kernel has been made.
func (s *Service) forget(path string) {
	if err := os.Remove(path); err != nil {
		s.o.Log.Warn("cannot remove a download that is unpacked", "err", err)
	}
}

// URLRequest says where a kernel is.
type URLRequest struct {
	// Name is the new kernel's.
	Name string
	// URL is that of an ELF or bzImage, Digest what the file must have.
	URL, Digest string
	// ModulesURL is that of a tar of its modules, ModulesDigest what the file must
	// have; both are empty for a kernel without.
	ModulesURL, ModulesDigest string
	// Config is the text of its configuration, or empty.
	Config []byte
}

// PullURL makes a kernel of what is at a URL. One that is here is not fetched again.
func (s *Service) PullURL(ctx context.Context, r URLRequest, p progress.Func) (Result, error) {
	image, modules, err := r.check()
	if err != nil {
		return Result{}, err
	}
	key, err := json.Marshal(r)
	if err != nil {
		return Result{}, err
	}
	return s.builds.Do(ctx, "url "+string(key), p, func(ctx context.Context, p progress.Func) (Result, error) {
		return s.pullURL(ctx, r, image, modules, p)
	})
}

// check refuses what cannot be fetched, or not be trusted.
func (r URLRequest) check() (image, modules fetch.Digest, err error) {
	if err := checkName(r.Name); err != nil {
		return image, modules, err
	}
	for _, file := range []struct {
		url, digest, flag string
		to                *fetch.Digest
	}{{r.URL, r.Digest, "--digest", &image}, {r.ModulesURL, r.ModulesDigest, "--modules-digest", &modules}} {
		if file.url == "" && file.digest == "" && file.flag != "--digest" {
			continue
		}
		if err := fetch.CheckURL(file.url); err != nil {
			return image, modules, err
		}
		if file.digest == "" {
			return image, modules, errs.New(errs.Invalid, "the file at %q could be anything: its digest is missing", fetch.Redacted(file.url)).
				WithHint("give %s sha256: and what sha256sum prints for a copy that you trust", file.flag)
		}
		if *file.to, err = fetch.ParseDigest(file.digest); err != nil {
			return image, modules, err
		}
	}
	if len(r.Config) > maxConfig {
		return image, modules, errs.New(errs.Invalid, "the kernel's configuration is larger than %d MiB", maxConfig>>20)
	}
	return image, modules, nil
}

func (s *Service) pullURL(ctx context.Context, r URLRequest, image, modules fetch.Digest, p progress.Func) (res Result, err error) {
	origin := vm.Origin{Kind: vm.OriginURL, URL: fetch.Redacted(r.URL), FileDigest: image.String()}
	if r.ModulesURL != "" {
		origin.ModulesURL, origin.ModulesFileDigest = fetch.Redacted(r.ModulesURL), modules.String()
	}
	old, err := s.record(ctx, r.Name)
	if err == nil && onDisk(old) == nil {
		if old.Origin.FileDigest == origin.FileDigest && old.Origin.ModulesFileDigest == origin.ModulesFileDigest {
			return Result{Kernel: old, Already: true}, nil
		}
		return res, taken(r.Name)
	}
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return res, err
	}
	if err := os.MkdirAll(s.o.Dirs.Downloads(), 0o700); err != nil {
		return res, errs.New(errs.Unavailable, "cannot make the folder for downloads: %w", err)
	}
	client := fetch.New(fetch.Options{Hint: "check the URL, the network and HTTPS_PROXY"})
	defer client.Close()
	get := func(url, kind string, d fetch.Digest, limit int64) (string, error) {
		// The name is in it: pulls of other names may have the same file under way.
		path := filepath.Join(s.o.Dirs.Downloads(), r.Name+"."+d.Hex()+"."+kind)
		err := client.File(ctx, url, path, d, limit, fetching(p, lastOf(url), 0))
		if errors.Is(err, fetch.ErrDigest) {
			return "", errs.New(errs.Unavailable, "%w", err).WithHint("compare the digest with the one that its maker publishes: %s", d)
		}
		return path, err
	}
	file, err := get(r.URL, "kernel", image, maxImage)
	if err != nil {
		return res, err
	}
	downloads := []string{file}
	if r.ModulesURL != "" {
		file, err := get(r.ModulesURL, "modules", modules, maxModulesFile)
		if err != nil {
			return res, err
		}
		downloads = append(downloads, file)
	}
	b, err := s.newBuilder(origin, p)
	if err != nil {
		return res, err
	}
	defer b.close()
	b.k.Name, b.k.Source, b.config = r.Name, origin.URL, r.Config
	if err := b.takeFiles(ctx, downloads); err != nil {
		return res, err
	}
	if res, err = b.finish(ctx); err != nil {
		return res, err
	}
	for _, file := range downloads {
		s.forget(file)
	}
	return res, nil
}

// lastOf is the last part of a URL, for people.
func lastOf(url string) string {
	url = fetch.Redacted(url)
	return url[strings.LastIndexByte(strings.TrimRight(url, "/"), '/')+1:]
}

// takeFiles unpacks files on disk: the kernel, and its modules if there is a second one.
func (b *builder) takeFiles(ctx context.Context, files []string) error {
	for i, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		if i == 0 {
			err = b.takeImage(f)
		} else {
			err = b.takeModules(ctx, f)
		}
		_ = f.Close() // it was only read
		if err != nil {
			return err
		}
	}
	return nil
}
