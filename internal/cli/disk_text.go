package cli

import (
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"banger/ext4"
	"banger/internal/base/errs"
	"banger/internal/cli/term"
)

// fileJSON is a file of a disk in --json output. Names and meanings are stable; fields
// may be added.
type fileJSON struct {
	// Path begins at the root of the disk. If it is no UTF-8, PathBase64 has its bytes.
	Path       string    `json:"path"`
	PathBase64 string    `json:"path_base64,omitempty"`
	Type       string    `json:"type"`
	Mode       string    `json:"mode"` // octal, without the type
	UID        uint32    `json:"uid"`
	GID        uint32    `json:"gid"`
	Size       int64     `json:"size"`
	UsedBytes  uint64    `json:"used_bytes"`
	Links      uint16    `json:"links"`
	Inode      uint32    `json:"inode"`
	Target     string    `json:"target,omitempty"`
	Major      uint32    `json:"major,omitempty"`
	Minor      uint32    `json:"minor,omitempty"`
	Mtime      time.Time `json:"mtime"`
	Atime      time.Time `json:"atime"`
	Ctime      time.Time `json:"ctime"`
	// Xattrs has the values in base64; "stat" has them, "ls" not.
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

func newFileJSON(name string, st *ext4.Stat) fileJSON {
	f := fileJSON{
		Path: name, Type: typeWord(st.FileMode()), Mode: modeText(st), UID: st.UID, GID: st.GID, Size: st.Size, UsedBytes: st.Blocks * 512,
		Links: st.Links, Inode: st.Ino, Target: st.Target, Major: st.Major, Minor: st.Minor, Mtime: st.Mtime, Atime: st.Atime, Ctime: st.Ctime,
	}
	if !utf8.ValidString(name) {
		f.PathBase64 = base64.StdEncoding.EncodeToString([]byte(name))
	}
	return f
}

// modeText is the permissions in octal, as chmod takes them.
func modeText(st *ext4.Stat) string { return fmt.Sprintf("%04o", st.Mode&0o7777) }

func typeWord(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "link"
	case fs.ModeDevice:
		return "block device"
	case fs.ModeDevice | fs.ModeCharDevice:
		return "character device"
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeSocket:
		return "socket"
	}
	return "unknown"
}

// writeName writes a line with a name: as it is, so that other programs get its
// bytes, but for a terminal without any that it would obey.
func writeName(w io.Writer, line string) error {
	if term.IsTerminal(w) {
		line = term.CleanLine(line)
	}
	_, err := io.WriteString(w, line+"\n")
	return err
}

// shellWord quotes a word for the shell, where that is needed.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// parseMode reads a mode in octal.
func parseMode(s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o7777 {
		return 0, errs.New(errs.Invalid, "cannot read the mode %q: it is not an octal number up to 7777", s).WithHint("write it as 644, 0755 or 4755")
	}
	return fs.FileMode(n), nil
}

// parseID reads the number of a user or group.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n < math.MaxUint32 { // the last one is "no change" to chown(2)
		return uint32(n), nil
	}
	if s != "" && strings.Trim(s, "0123456789") == "" {
		return 0, errs.New(errs.Invalid, "the id %s is larger than %d", s, uint32(math.MaxUint32-1))
	}
	return 0, errs.New(errs.Invalid, "%q is not the number of a user or group", s).
		WithHint("names belong to the file system's own /etc/passwd and /etc/group; give a number")
}

// idFlag is a flag whose value is an id.
type idFlag struct {
	id  uint32
	set bool
}

func (f *idFlag) String() string {
	if !f.set {
		return ""
	}
	return strconv.FormatUint(uint64(f.id), 10)
}

func (f *idFlag) Set(s string) (err error) {
	f.id, err = parseID(s)
	f.set = err == nil
	return err
}

func (f *idFlag) Type() string { return "number" }

// modeFlag is a flag whose value is a mode.
type modeFlag struct {
	mode fs.FileMode
	set  bool
}

func (f *modeFlag) String() string {
	if !f.set {
		return ""
	}
	return fmt.Sprintf("%04o", f.mode)
}

func (f *modeFlag) Set(s string) (err error) {
	f.mode, err = parseMode(s)
	f.set = err == nil
	return err
}

func (f *modeFlag) Type() string { return "octal" }

// or returns the flag's value if it was given.
func (f *idFlag) or(id uint32) uint32 {
	if f.set {
		return f.id
	}
	return id
}

func (f *modeFlag) or(m fs.FileMode) fs.FileMode {
	if f.set {
		return f.mode
	}
	return m
}
