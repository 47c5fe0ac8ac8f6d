package ext4

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"banger/ext4/internal/disk"
)

// patched is an image in memory with pages of its own over one that is shared.
type patched struct {
	base  []byte
	pages map[int64][]byte
}

const patchedPage = 1024

func newPatched(base []byte) *patched { return &patched{base, map[int64][]byte{}} }

func (p *patched) clone() *patched {
	c := newPatched(p.base)
	for n, b := range p.pages {
		c.pages[n] = bytes.Clone(b)
	}
	return c
}

// whole is all of the image.
func (p *patched) whole() []byte {
	b := bytes.Clone(p.base)
	for n, page := range p.pages {
		copy(b[n*patchedPage:], page)
	}
	return b
}

func (p *patched) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		at := off + int64(n)
		if at >= int64(len(p.base)) {
			return n, io.EOF
		}
		page, in := at/patchedPage, at%patchedPage
		src := p.pages[page]
		if src == nil {
			src = p.base[page*patchedPage:][:patchedPage]
		}
		n += copy(b[n:], src[in:])
	}
	return n, nil
}

func (p *patched) WriteAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		at := off + int64(n)
		if at < 0 || at >= int64(len(p.base)) {
			return n, fmt.Errorf("byte %d is outside the image", at)
		}
		page, in := at/patchedPage, at%patchedPage
		dst := p.pages[page]
		if dst == nil {
			dst = bytes.Clone(p.base[page*patchedPage:][:patchedPage])
			p.pages[page] = dst
		}
		n += copy(dst[in:], b[n:])
	}
	return n, nil
}

func (p *patched) Sync() error          { return nil }
func (p *patched) Truncate(int64) error { return nil }

// fuzzBases are images to damage. Those without checksums let any damage through to
// the deepest code; in those with them, repaired puts the checksums of superblock,
// descriptors and inodes right again.
func fuzzBases(t testing.TB) (bases [][]byte, metadata [][]int64) {
	for _, args := range []string{
		"-t ext4 -b 1024 -N 64 -O ^has_journal,^metadata_csum,^uninit_bg,^resize_inode",
		"-t ext4 -b 1024 -N 64 -O ^has_journal,inline_data,^resize_inode",
		"-t ext3 -b 1024 -N 64 -O ^has_journal,^resize_inode",
		"-t ext4 -b 1024 -N 64 -J size=1 -O ^metadata_csum,^resize_inode",
	} {
		mib := 1
		if strings.Contains(args, "-J") {
			mib = 4
		}
		path := mkfsImage(t, args, mib)
		session(t, path, func(x *Tx) {
			must(t, x.MkdirAll("/tree/dir/sub", Attr{Mode: 0o755}))
			for i := range 4 {
				must(t, x.WriteFile(fmt.Sprintf("/tree/%d", i), bytes.NewReader(pattern(i, i*700)), Attr{}))
			}
			w, err := x.Create("/tree/large", Attr{})
			must(t, err)
			for i := range 12 { // an extent tree of two levels
				w.WriteAt([]byte{1}, int64(i*3000))
			}
			must(t, w.Close())
			must(t, x.SetXattr("/tree/large", "user.block", pattern(1, 400)))
			must(t, x.Symlink(strings.Repeat("long/", 20), "/tree/link", Attr{}))
			for i := range 25 { // an index
				must(t, x.Link("/tree/3", fmt.Sprintf("/tree/dir/a name of some length, number %d", i)))
			}
		})
		b, err := os.ReadFile(path)
		must(t, err)
		bases = append(bases, b)
		// Damage is wanted where there is something: not in contents, nor in free blocks.
		var places []int64
		for page := int64(1); page < int64(len(b))/patchedPage; page++ {
			if bytes.Count(b[page*patchedPage:][:patchedPage], []byte{0}) != patchedPage {
				places = append(places, page*patchedPage)
			}
		}
		metadata = append(metadata, places)
	}
	return bases, metadata
}

// repaired puts checksums right where that takes no search.
func repaired(p *patched) {
	b := make([]byte, disk.SuperblockSize)
	p.ReadAt(b, disk.SuperblockOffset)
	sb := new(disk.Superblock)
	binary.Decode(b, binary.LittleEndian, sb)
	if !sb.MetadataCsum() {
		return
	}
	sb.Encode(b)
	p.WriteAt(b, disk.SuperblockOffset)
	sb, err := disk.DecodeSuperblock(b)
	if err != nil || sb.Groups() > 4 {
		return
	}
	for g := range sb.Groups() {
		at := int64(sb.GDTBlock(0))*int64(sb.BlockSize()) + int64(g)*int64(sb.DescriptorSize())
		d := make([]byte, sb.DescriptorSize())
		if n, _ := p.ReadAt(d, at); n < len(d) {
			return
		}
		copy(d[0x1e:], []byte{0, 0})
		group, err := sb.DecodeGroup(g, d)
		if _, wrong := err.(*disk.CorruptError); err != nil && !wrong {
			return
		}
		if err != nil { // only to have the sum: the fields as they are
			raw := binary.LittleEndian
			group = disk.Group{BlockBitmap: uint64(raw.Uint32(d)), InodeBitmap: uint64(raw.Uint32(d[4:])), InodeTable: uint64(raw.Uint32(d[8:])),
				FreeBlocks: uint32(raw.Uint16(d[12:])), FreeInodes: uint32(raw.Uint16(d[14:])), UsedDirs: uint32(raw.Uint16(d[16:])),
				Flags: raw.Uint16(d[18:]), ItableUnused: uint32(raw.Uint16(d[0x1c:]))}
		}
		bitmap := make([]byte, sb.BlockSize())
		p.ReadAt(bitmap, int64(group.BlockBitmap%sb.Blocks())*int64(sb.BlockSize()))
		group.BlockBitmapCsum = sb.BlockBitmapChecksum(bitmap)
		p.ReadAt(bitmap, int64(group.InodeBitmap%sb.Blocks())*int64(sb.BlockSize()))
		group.InodeBitmapCsum = sb.InodeBitmapChecksum(bitmap)
		sb.EncodeGroup(g, &group, d)
		p.WriteAt(d, at)
		for i := range min(sb.InodesPerGroup, 64) {
			at := int64(group.InodeTable%sb.Blocks())*int64(sb.BlockSize()) + int64(i)*int64(sb.InodeSize)
			raw := make([]byte, sb.InodeSize)
			if n, _ := p.ReadAt(raw, at); n < len(raw) {
				break
			}
			repairInode(sb, g*sb.InodesPerGroup+i+1, raw)
			p.WriteAt(raw, at)
		}
	}
}

func repairInode(sb *disk.Superblock, ino uint32, raw []byte) {
	plain := *sb
	plain.FeatureROCompat &^= disk.ROCompatMetadataCsum
	if i, err := plain.DecodeInode(ino, raw); err == nil && i.Mode != 0 {
		sb.EncodeInode(ino, &i, raw)
	}
}

// FuzzEdit edits damaged images: whatever they hold, every operation ends, soon and with
// an error at the worst.
func FuzzEdit(f *testing.F) {
	bases, places := fuzzBases(f)
	f.Add([]byte{0})
	f.Add([]byte{1, 0, 0, 0x18, 9})
	for i := range 60 {
		b := []byte{byte(i)}
		for k := range 6 {
			b = append(b, byte(i*7+k*31), byte(i*3), byte(k*101+i), byte(i*i+k))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		which := int(data[0]) % len(bases)
		p := newPatched(bases[which])
		for d := data[1:]; len(d) >= 4 && len(data)-len(d) < 200; d = d[4:] {
			page := places[which][int(d[0])%len(places[which])]
			p.WriteAt(d[3:4], page+int64(d[1]&3)<<8+int64(d[2]))
		}
		repaired(p)
		start := time.Now()
		fuzzSession(p)
		if took := time.Since(start); took > 10*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func fuzzSession(p *patched) {
	for round := range 2 {
		x, err := Edit(p, int64(len(p.base)), &testOptions)
		if err != nil {
			return
		}
		a := Attr{Mode: 0o644}
		x.MkdirAll("/tree/dir/new/er", a)
		x.WriteFile("/tree/2", bytes.NewReader(pattern(1, 5000)), a)
		x.WriteFile("/tree/new", bytes.NewReader(pattern(1, 5000)), a)
		x.Truncate("/tree/large", 10_000)
		if w, err := x.Modify("/tree/large"); err == nil {
			w.WriteAt([]byte("changed"), 20_000)
			w.Close()
		}
		x.Chmod("/", 0o755)
		x.SetXattr("/tree/large", "user.more", pattern(3, 100))
		x.RemoveXattr("/tree/large", "user.block")
		x.Rename("/tree/dir/sub", "/sub")
		x.Rename("/tree/link", "/tree/0")
		for i := range 8 {
			x.Symlink("t", fmt.Sprintf("/tree/dir/another name of some length %d", i), a)
		}
		x.Remove("/tree/dir/a name of some length, number 3")
		x.ReadDir("/tree/dir")
		if round == 1 {
			x.RemoveAll("/tree")
			x.RemoveAll("/lost+found")
		}
		if x.Commit() != nil {
			return
		}
	}
	if im, err := Open(p, int64(len(p.base))); err == nil {
		manifestOf(im)
	}
}
