package diskimage

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"banger/internal/base/errs"
)

const (
	// maxEntries bounds the memory for the names of one archive.
	maxEntries = 4 << 20
	// maxFile is below the size at which the converter's block numbers go wrong (42 GiB).
	maxFile = 32 << 30
	// maxPath is the longest path and link target that the kernel takes
	// (path_resolution(7)).
	maxPath = 4095
	// maxHops is how many symbolic links the kernel follows in one path.
	maxHops = 40
)

// xattrPrefix begins the PAX keys of extended attributes (star(5), also GNU tar's).
const xattrPrefix = "SCHILY.xattr."

// filter copies the tar r to w, made plain: clean relative names, no parent that
// is a symbolic link, no entry that the converter would get wrong. It reads r to
// its end.
func filter(w io.Writer, r io.Reader) error {
	src := &endReader{r: r}
	f := &filterState{in: tar.NewReader(src), out: tar.NewWriter(w), kinds: map[string]kind{}, links: map[string]string{}}
	for {
		h, err := f.in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return broken(err)
		}
		if err := f.entry(h); err != nil {
			return err
		}
	}
	if src.ended {
		return broken(io.ErrUnexpectedEOF)
	}
	if err := onlyZeros(r); err != nil {
		return err
	}
	// Hard links may come before what they name.
	f.final = true
	for _, h := range f.later {
		if err := f.hardLink(h); err != nil {
			return err
		}
	}
	return f.out.Close()
}

// broken tells an archive that cannot be read from a source that failed.
func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.New(errs.Invalid, "the archive is cut off")
	}
	if errors.Is(err, tar.ErrHeader) {
		return &errs.Error{Kind: errs.Invalid, Err: err}
	}
	return err
}

// endReader notes that its source ran dry: a tar must end with blocks of zeros.
type endReader struct {
	r     io.Reader
	ended bool
}

func (e *endReader) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if n == 0 && err != nil && errors.Is(err, io.EOF) {
		e.ended = true
	}
	return n, err
}

// onlyZeros reads what pads an archive to the size of its writer's records.
func onlyZeros(r io.Reader) error {
	var b [32 << 10]byte
	for {
		n, err := r.Read(b[:])
		for _, c := range b[:n] {
			if c != 0 {
				return errs.New(errs.Invalid, "the archive has data after its end")
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// kind is what stands at a path.
type kind byte

const (
	directory kind = iota + 1
	symlink
	other
)

type filterState struct {
	in    *tar.Reader
	out   *tar.Writer
	kinds map[string]kind
	// links has the target of every symbolic link.
	links map[string]string
	// later holds the hard links whose target has not come; final says that it
	// will not come any more.
	later []*tar.Header
	final bool
}

// entry handles one entry of the archive. Errors name it.
func (f *filterState) entry(h *tar.Header) error {
	const typeMask, socket = 0o170000, 0o140000 // st_mode (inode(7)), which some writers store whole
	if h.Typeflag == tar.TypeXGlobalHeader || h.Mode&typeMask == socket {
		return nil
	}
	if len(f.kinds)+len(f.later) >= maxEntries {
		return errs.New(errs.Invalid, "the archive has more than %d entries", maxEntries)
	}
	out := &tar.Header{Name: h.Name, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid, ModTime: clampTime(h.ModTime), Format: tar.FormatPAX}
	out.AccessTime, out.ChangeTime = out.ModTime, out.ModTime
	k := other
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		out.Typeflag, out.Size = tar.TypeReg, h.Size
	case tar.TypeDir:
		out.Typeflag, k = tar.TypeDir, directory
	case tar.TypeSymlink:
		out.Typeflag, out.Linkname, k = tar.TypeSymlink, h.Linkname, symlink
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		out.Typeflag, out.Devmajor, out.Devminor = h.Typeflag, h.Devmajor, h.Devminor
	case tar.TypeLink:
		return f.hardLink(h)
	default:
		return refuse(h.Name, "its type %q is unknown", h.Typeflag)
	}
	if err := checkHeader(h); err != nil {
		return err
	}
	records, err := xattrs(h)
	if err != nil {
		return err
	}
	out.PAXRecords = records
	name, err := f.resolve(h.Name)
	if err != nil {
		return err
	}
	if err := f.place(h.Name, name, k); err != nil {
		return err
	}
	if k == symlink {
		f.links[name] = h.Linkname
	}
	return f.write(out, name)
}

// write emits a header with the clean name, and the data of the entry.
func (f *filterState) write(out *tar.Header, name string) error {
	shown := out.Name
	out.Name = name
	if out.Typeflag == tar.TypeDir {
		out.Name += "/"
	}
	if err := f.out.WriteHeader(out); err != nil {
		return fmt.Errorf("entry %q: %w", shown, err)
	}
	if out.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := io.Copy(f.out, f.in)
	return broken(err)
}

// hardLink emits a link, or keeps it for later if its target has not come yet.
func (f *filterState) hardLink(h *tar.Header) error {
	name, err := f.resolve(h.Name)
	if err != nil {
		return err
	}
	target, err := f.resolve(h.Linkname)
	if err != nil {
		return err
	}
	switch f.kinds[target] {
	case 0:
		if f.final {
			return refuse(h.Name, "it is a link to %q, which is not in the archive", h.Linkname)
		}
		f.later = append(f.later, h)
		return nil
	case directory:
		return refuse(h.Name, "it is a hard link to the directory %q", h.Linkname)
	case symlink:
		f.links[name] = f.links[target]
	}
	if err := f.place(h.Name, name, f.kinds[target]); err != nil {
		return err
	}
	return f.write(&tar.Header{Name: h.Name, Typeflag: tar.TypeLink, Linkname: target, Format: tar.FormatPAX}, name)
}

// place notes what now stands at name. A directory may come twice, for its mode;
// nothing else may, since the converter cannot take back what it has written.
func (f *filterState) place(shown, name string, k kind) error {
	if old := f.kinds[name]; old != 0 && (old != directory || k != directory) {
		return refuse(shown, "it comes twice in the archive")
	}
	if name == "." && k != directory {
		return refuse(shown, "the root must be a directory")
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if old := f.kinds[dir]; old == directory {
			break
		} else if old != 0 {
			return refuse(shown, "%q is not a directory", dir)
		}
		f.kinds[dir] = directory
	}
	f.kinds[name] = k
	return nil
}

// resolve returns the clean path of an entry below the root, "." for the root
// itself, with every parent that is a symbolic link replaced by where it leads.
func (f *filterState) resolve(name string) (string, error) {
	rest := strings.Split(name, "/")
	if slices.Contains(rest, "..") {
		return "", refuse(name, "its name contains %q", "..")
	}
	at, hops := ".", 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at) // of a link's target; above the root is the root
			continue
		}
		if len(part) > 255 {
			return "", refuse(name, "a part of its name has more than 255 bytes")
		}
		next := path.Join(at, part)
		if len(next) > maxPath {
			return "", refuse(name[:min(len(name), 60)]+"…", "its path has more than %d bytes", maxPath)
		}
		if f.kinds[next] != symlink || !hasName(rest) {
			at = next
			continue
		}
		target := f.links[next]
		if hops++; hops > maxHops {
			return "", refuse(name, "its name leads through more than %d symbolic links", maxHops)
		}
		if path.IsAbs(target) {
			at = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// hasName says whether a part is left that names something.
func hasName(parts []string) bool {
	return slices.ContainsFunc(parts, func(s string) bool { return s != "" && s != "." })
}

func checkHeader(h *tar.Header) error {
	switch {
	case h.Uid < 0 || h.Uid > math.MaxUint32 || h.Gid < 0 || h.Gid > math.MaxUint32:
		return refuse(h.Name, "its owner %d:%d is out of range", h.Uid, h.Gid)
	case h.Size > maxFile:
		return refuse(h.Name, "it is larger than 32GiB")
	case h.Typeflag == tar.TypeSymlink && (h.Linkname == "" || len(h.Linkname) > maxPath):
		return refuse(h.Name, "its target must have 1 to %d bytes", maxPath)
	case h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20:
		return refuse(h.Name, "its device number %d:%d is out of range", h.Devmajor, h.Devminor)
	}
	return nil
}

// clampTime keeps a time within what the converter stores right.
func clampTime(t time.Time) time.Time {
	if t.Unix() < 0 {
		return time.Unix(0, 0)
	}
	if t.Unix() > math.MaxInt32 {
		return time.Unix(math.MaxInt32, 0)
	}
	return t
}

// xattrs returns the extended attributes that the guest's kernel takes, as PAX records.
func xattrs(h *tar.Header) (map[string]string, error) {
	kept := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		value := h.PAXRecords[key]
		switch {
		case !ok:
		case len(name) > 255:
			return nil, refuse(h.Name, "the name of an extended attribute has more than 255 bytes")
		case name == "system.posix_acl_access", name == "system.posix_acl_default":
			acl, err := diskACL(value)
			if err != nil {
				return nil, refuse(h.Name, "its attribute %q is not an ACL: %w", name, err)
			}
			kept[key] = acl
		case named(name, "user."), named(name, "trusted."), named(name, "security."):
			kept[key] = value
		}
	}
	return kept, nil
}

// named says whether an attribute is in a namespace, and more than its name.
func named(name, namespace string) bool {
	return strings.HasPrefix(name, namespace) && len(name) > len(namespace)
}

func refuse(entry, format string, args ...any) error {
	return errs.New(errs.Invalid, "entry %q: %w", entry, fmt.Errorf(format, args...))
}
