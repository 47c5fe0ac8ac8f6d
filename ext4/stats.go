package ext4

import (
	"bytes"
	"time"

	"banger/ext4/internal/disk"
)

// Stats is what an image says about itself as a whole.
type Stats struct {
	Label string
	UUID  [16]byte

	BlockSize int // bytes, 1024 to 65536
	InodeSize int // bytes
	// Blocks and FreeBlocks count blocks of BlockSize; ReservedBlocks are those of
	// the free ones that only root may use.
	Blocks, FreeBlocks, ReservedBlocks uint64
	Inodes, FreeInodes                 uint32
	Groups                             uint32

	// Features has the names that mke2fs gives them: first the compatible ones, then
	// the incompatible, then those that forbid only writing.
	Features []string

	// Clean says that it was unmounted, Errors that the kernel found damage and nobody
	// has checked since. NeedsRecovery says that the journal has to be replayed;
	// what is read from the image is as if it had been.
	Clean, Errors, NeedsRecovery bool
	// JournalSize is that of the journal inside the image in bytes, 0 without one.
	JournalSize uint64

	// Created, Mounted, Written and Checked are when it was made, last mounted,
	// last written and last checked; zero (Time.IsZero) for never.
	Created, Mounted, Written, Checked time.Time
	// LastMounted is where it was mounted last.
	LastMounted string
}

// Stats describes the image. Free blocks and inodes are summed over the groups, as
// the kernel does on mounting: in an image that was not unmounted the superblock's
// numbers are old. Only where a group is damaged they are the superblock's.
func (im *Image) Stats() Stats {
	v, sb := im.v, im.v.sb
	s := Stats{
		Label: text(sb.VolumeName[:]), UUID: sb.UUID,
		BlockSize: v.bs, InodeSize: int(sb.InodeSize), Groups: v.groups,
		Blocks: sb.Blocks(), FreeBlocks: sb.FreeBlocks(), ReservedBlocks: sb.ReservedBlocks(),
		Inodes: sb.InodesCount, FreeInodes: sb.FreeInodesCount,
		Clean: sb.State&disk.StateClean != 0, Errors: sb.State&disk.StateErrors != 0,
		NeedsRecovery: sb.FeatureIncompat&disk.IncompatRecover != 0 || v.journal != nil,
		Created:       wideTime(sb.MkfsTime, sb.MkfsTimeHi), Mounted: wideTime(sb.Mtime, sb.MtimeHi),
		Written: wideTime(sb.Wtime, sb.WtimeHi), Checked: wideTime(sb.Lastcheck, sb.LastcheckHi),
		LastMounted: text(sb.LastMounted[:]),
	}
	s.Features = append(s.Features, disk.CompatNames(sb.FeatureCompat)...)
	s.Features = append(s.Features, disk.IncompatNames(sb.FeatureIncompat)...)
	s.Features = append(s.Features, disk.ROCompatNames(sb.FeatureROCompat)...)
	if blocks, inodes, ok := v.countFree(); ok {
		s.FreeBlocks, s.FreeInodes = blocks, inodes
	}
	if sb.FeatureCompat&disk.CompatHasJournal != 0 && sb.JournalInum != 0 {
		if i, _, err := v.inode(sb.JournalInum); err == nil {
			s.JournalSize = i.Size
		}
	}
	return s
}

// countFree sums up the groups. It says no where a group cannot be read.
func (v *volume) countFree() (blocks uint64, inodes uint32, ok bool) {
	for n := range v.groups {
		g, err := v.group(n)
		if err != nil {
			return 0, 0, false
		}
		// Groups count clusters, the superblock blocks.
		blocks += uint64(g.FreeBlocks) << v.clusterBits()
		inodes += g.FreeInodes
	}
	return blocks, inodes, blocks <= v.sb.Blocks() && inodes <= v.sb.InodesCount
}

// text is a string in a field: it ends at the first zero byte.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// wideTime is a time in the superblock, of 40 bits.
func wideTime(lo uint32, hi uint8) time.Time {
	if lo == 0 && hi == 0 {
		return time.Time{}
	}
	return time.Unix(int64(hi)<<32|int64(lo), 0).UTC()
}
