// Package jbd2 reads, replays and writes the journal of ext4.
//
// The journal is a file inside the file system: a superblock, then a ring of
// blocks, the log. A transaction in the log is descriptor blocks, each followed by
// the blocks it lists, any number of revoke blocks, and one commit block. The
// superblock says where the first transaction that may not have reached its place
// begins, and its sequence number; those after it carry the next numbers.
//
// The format is that of the kernel's Documentation/filesystems/ext4/journal.rst
// and include/linux/jbd2.h, where the two agree; the size of a version 2 checksum's
// tag and the padding of an old superblock are only in the header. What a log means
// is what fs/jbd2/recovery.c makes of it.
//
// Nothing of the log is believed: every walk is bounded by the log's length and
// every block number by the file system's size.
package jbd2
