package tarfile

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// compareWithGo reads an archive with archive/tar too. Where both accept it, it
// returns in what they differ, beyond what the package comment says. It returns
// whether there was something to compare.
func compareWithGo(archive []byte, ours []read) (compared bool, err error) {
	type member struct {
		tar.Header
		data []byte
	}
	var theirs []member
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, nil
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			// archive/tar returns it, does not apply it, and forgets an 'x' before.
			return false, nil
		}
		if h.Typeflag == tar.TypeReg && h.Size > 1<<24 || h.Typeflag == tar.TypeGNUSparse && h.Size > 1<<24 {
			return false, nil // a hole to be read as zeros
		}
		if h.Typeflag == 'X' {
			return false, nil // archive/tar takes it for a file
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return false, nil
		}
		theirs = append(theirs, member{*h, data})
	}
	if len(ours) != len(theirs) {
		return true, fmt.Errorf("%d members, archive/tar has %d", len(ours), len(theirs))
	}
	for i := range ours {
		o, h := &ours[i], &theirs[i]
		kind := h.Typeflag
		switch kind {
		case tar.TypeCont, tar.TypeGNUSparse:
			kind = TypeReg
		}
		if (h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont) && strings.HasSuffix(h.Name, "/") && o.Type == TypeDir {
			kind, h.data = TypeDir, nil
		}
		link := h.Linkname
		if kind != TypeLink && kind != TypeSymlink {
			link = ""
		}
		size := h.Size
		if '1' <= kind && kind <= '6' {
			size = 0
		}
		major, minor := h.Devmajor, h.Devminor
		if kind != TypeChar && kind != TypeBlock {
			major, minor = 0, 0
		}
		type metadata struct {
			kind             byte
			name, link       string
			mode             int64
			uid, gid         int
			major, minor     int64
			size, sec, nanos int64
		}
		got := metadata{
			o.Type, o.Name, o.Link, int64(o.Mode), int(o.Uid), int(o.Gid), int64(o.Major), int64(o.Minor),
			o.Size, o.Mtime.Sec, int64(o.Mtime.Nsec),
		}
		want := metadata{
			kind, h.Name, link, h.Mode, h.Uid, h.Gid, major, minor,
			size, h.ModTime.Unix(), int64(h.ModTime.Nanosecond()),
		}
		if got != want {
			return true, fmt.Errorf("member %d:\n got %q\nwant %q", i, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
		}
		if !bytes.Equal(o.contents(), h.data) {
			return true, fmt.Errorf("member %d %q: the contents differ", i, o.Name)
		}
	}
	return true, nil
}
