// Package tarfile reads tar streams fast: a goroutine reads ahead, headers are
// parsed where they lie in the read buffer, and file data is handed over as
// slices of that buffer.
//
// It reads the formats of v7, ustar and pax (POSIX.1-2017, pax, "ustar
// Interchange Format" and "pax Interchange Format"), of GNU tar (manual,
// "Basic Tar Format" and "Storing Sparse Files") and of star (star(5)). What
// the formats leave open is decided as archive/tar decides it, so that an
// archive means here what it means to the container tools written in Go. The
// deliberate differences:
//
//   - the end is strict: an archive without its two zero blocks is ErrTruncated,
//     and only zeros may follow them;
//   - a pax global header changes the members after it and is never returned;
//   - an extended header without its member, a sparse map of an unknown version and
//     an owner beyond 32 bits are errors; 'X' (Solaris) is a pax header;
//   - a sparse map is checked against the stored size before any data is given;
//   - the types '7' and 'S', which are regular files to most readers, are '0';
//   - a name that ends in a slash makes a regular file a directory whatever its type flag
//     ('0', '7', NUL), as it does for GNU tar and libarchive; archive/tar does so for NUL alone;
//   - what GNU tar and libarchive escape in the names of extended attributes is undone;
//   - fields that do not matter to a member, such as the device numbers of a
//     regular file, may hold anything.
package tarfile

import (
	"errors"
	"fmt"
	"io"
)

// Values of Entry.Type. Any other value is the header's type flag as it is;
// GNU tar's 'D', 'M', 'N' and 'V' are such, and the caller has to refuse what
// it does not know.
const (
	TypeReg     = '0' // also '7' (contiguous), 'S' (old GNU sparse), and NUL
	TypeLink    = '1' // hard link to Link
	TypeSymlink = '2' // symbolic link to Link
	TypeChar    = '3'
	TypeBlock   = '4'
	TypeDir     = '5' // also NUL, '0' and '7' with a name that ends in a slash
	TypeFifo    = '6'
)

// Limits of what one member may hold in memory.
const (
	maxPayload = 1 << 20 // bytes of a pax header, a GNU long name, all global records
	maxRuns    = 1 << 20 // entries of a sparse map
	maxXattrs  = 4096    // extended attributes of a member
)

var (
	// ErrFormat is a header or a record that breaks the format, a number out of
	// range, or one of this package's limits exceeded.
	ErrFormat = errors.New("not a valid tar archive")
	// ErrTruncated is a stream that ends before the two zero blocks that end an
	// archive. It wraps io.ErrUnexpectedEOF.
	ErrTruncated = fmt.Errorf("the tar archive is cut short: %w", io.ErrUnexpectedEOF)
	// ErrTrailing is something other than zeros behind the end of the archive.
	ErrTrailing = errors.New("data follows the end of the tar archive")
	// ErrClosed is a call of Next or Data after Close.
	ErrClosed = errors.New("the tar reader is closed")
)

// Entry is one member. Its fields are valid until the next call of Next; the
// strings may be kept.
type Entry struct {
	Type byte // one of the constants, or the type flag as it is
	// Name is the path as the archive has it, in any bytes but NUL: it may be
	// empty or absolute, hold "..", or end in a slash.
	Name string
	Link string // target of TypeLink and TypeSymlink, in any bytes but NUL; else empty
	// Mode holds all the bits that the header has: the twelve of permission
	// and, from some writers, the file type's too.
	Mode     uint32
	Uid, Gid uint32
	Mtime    Time // always set
	// Atime and Ctime are set if a pax record or a header of GNU tar or star
	// has them.
	Atime, Ctime Time
	Major, Minor uint32 // of TypeChar and TypeBlock; else 0
	// Size is the length of the file's contents in bytes, of a sparse file its
	// holes included. It is 0 for the types '1' to '6', which have no data
	// whatever the header says: some writers store the size of a hard link's
	// target.
	Size int64
	// Xattrs has each name once, in no particular order. Names are whole, as in
	// "security.capability".
	Xattrs []Xattr
	// Sparse lists the regions of a sparse file that hold data, sorted, apart
	// from one another, none empty, all within Size; the rest reads as zeros.
	// Their lengths add up to what Data gives. Nil means that the file is not
	// sparse: all of it is data. A file that is one hole has an empty list.
	Sparse []Run
}

// Time is a point in time: Sec seconds since 1970 UTC, which may be negative,
// and Nsec nanoseconds, 0 to 999999999, that always count forwards.
type Time struct {
	Sec  int64
	Nsec uint32
	Set  bool // whether the archive has this time
}

// Xattr is an extended attribute. Its value may be empty.
type Xattr struct {
	Name  string
	Value []byte
}

// Run is a region of a file, in bytes.
type Run struct {
	Offset, Length int64
}
