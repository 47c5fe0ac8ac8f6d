// Package ext4 creates, edits and reads ext4 file systems in files, without
// mounting them, without root and without any other program.
//
// # Words
//
//   - An image is a file, or a block device, that holds a file system.
//   - A file system consists of blocks of 1 to 64 KiB (4 KiB in what this package
//     makes), in groups of usually 32,768.
//   - An inode is a file without its name: type, owner, permissions, times,
//     extended attributes, and which blocks hold its contents. Names are in directories.
//   - Data is what files contain; metadata is all else.
//   - An extent is a run of blocks of a file that is a run on the disk too. What
//     no extent maps is a hole and reads as zeros.
//   - The journal is a part of the image in which a change of metadata is written
//     as a whole before it is made. To replay it is to make the changes that were
//     written and perhaps not made: after a power failure, or when a virtual machine
//     was killed. A journal that wants that is dirty.
//   - A packed image has no room to write: it is as large as its content.
//   - Sparse is a file on the host in which long runs of zeros take no space.
//
// # Three faces
//
// Format and NewBuilder create an image: empty, or from tar archives, layers of
// container images, or an fs.FS. Data goes from the archive straight to its place, and
// the same input always makes the same bytes.
//
// Edit begins a session on an image that nobody uses. Its changes are in
// memory until Commit writes them as one transaction of the image's own journal: whenever
// the process is killed, the guest's kernel, e2fsck and the next Edit find all of the
// session or none of it. Grow and Shrink change the size, Trim gives unused
// space back to the host, SetUUID makes a copy an image of its own.
//
// Open reads an image, of this package or of any Linux of the last fifteen years, as an
// fs.FS. A dirty journal is read as if it had been replayed. Check tells whether the image
// is consistent, ExportTar turns it into an archive.
//
// Nothing in an image is trusted: damage is an error for which errors.Is finds
// ErrCorrupt, never a panic or an endless loop. Paths and symbolic links never lead out of the
// image. A feature that is not known is refused by its name (*FeatureError) before
// anything is written.
//
// The package takes open files and never paths, runs no command, and needs no
// privilege of its own. It imports the standard library only.
//
// # Where the format is described
//
// The kernel's Documentation/filesystems/ext4, and the headers fs/ext4/ext4.h,
// fs/ext4/ext4_extents.h, fs/ext4/xattr.h and include/linux/jbd2.h. Each structure in this
// package's internal folders names its page.
package ext4
