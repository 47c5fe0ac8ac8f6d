package ext4

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banger/ext4/internal/disk"
	"banger/internal/base/testneed"
)

// An image of our own has no problem, whatever its size.
func TestCheckWhatWeMade(t *testing.T) {
	for _, size := range []int64{MinSize, 8 << 20, 100<<20 + 12345, 129 << 20, 1 << 30, 9 << 30, 300 << 30} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			path := filepath.Join(testneed.Memory(t), "image")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := Format(f, &Options{Size: size}); err != nil {
				t.Fatal(err)
			}
			sound(t, path)
		})
	}
	t.Run("packed", func(t *testing.T) { sound(t, manyFiles(t, 0, 3000)) })
	t.Run("full", func(t *testing.T) { sound(t, manyFiles(t, 64<<20, 3000)) })
}

// sound wants neither e2fsck nor us to find anything.
func sound(t testing.TB, path string) {
	t.Helper()
	if damaged, out := complains(t, path); damaged {
		t.Errorf("e2fsck: %s", out)
	}
	r, err := openImage(t, path).Check(t.Context())
	if err != nil || !r.OK() || len(r.Notes) > 0 {
		t.Errorf("%v\n%v", err, r)
	}
}

// manyFiles makes an image with files in an indexed directory, a third of them with
// content, and one directory for every hundred.
func manyFiles(t testing.TB, size int64, files int) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("many/file-%d", n), Mode: 0o644, Size: int64(n % 3 * 3000)}
		if n%100 == 0 {
			h = &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("dirs/%d/%d/file", n%1000, n), Mode: 0o600}
		}
		if n%50 == 1 {
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.name": strings.Repeat("value", n%200)}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write(make([]byte, h.Size))
	}
	w.Close()
	path := filepath.Join(testneed.Memory(t), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	builder, err := NewBuilder(f, &Options{Size: size})
	if err == nil {
		err = builder.Tar(&b)
	}
	if err == nil {
		err = builder.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// imageToDamage makes the image that TestCheckFindsDamage damages: small blocks, so that
// small files have maps and directories.
func imageToDamage(t testing.TB) []byte {
	t.Helper()
	root := t.TempDir()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"dir/sub/deep", "many"} {
		must(os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	for _, f := range []string{"a", "b", "x", "y", "dir/f", "dir/g"} {
		must(os.WriteFile(filepath.Join(root, f), bytes.Repeat([]byte(f), 8000/len(f)), 0o644))
	}
	for n := range 400 {
		must(os.WriteFile(filepath.Join(root, "many", fmt.Sprintf("name-of-a-file-%d", n)), nil, 0o644))
	}
	must(os.Link(filepath.Join(root, "b"), filepath.Join(root, "dir", "hard")))
	must(os.Symlink("target", filepath.Join(root, "link")))
	must(os.Symlink(strings.Repeat("far/", 40), filepath.Join(root, "slow")))
	big, err := os.Create(filepath.Join(root, "big"))
	must(err)
	for n := range int64(12) {
		_, err := big.WriteAt([]byte("block"), n*2*4096)
		must(err)
	}
	must(big.Close())
	path := newImage(t, "16M", "-t", "ext4", "-b", "1024", "-N", "1024", "-d", root)
	testneed.Run(t, "debugfs", "-w", "-R", "ea_set /x user.one "+strings.Repeat("1", 300), path)
	testneed.Run(t, "debugfs", "-w", "-R", "ea_set /y user.two "+strings.Repeat("2", 300), path)
	// e2fsck gives the large directory an index; its status says that it did.
	testneed.Debugfs(t, path, "mknod fifo p")
	out, _ := testneed.Status(t, "e2fsck", "-fyD", path)
	b, err := os.ReadFile(path)
	must(err)
	if damaged, _ := complains(t, path); damaged {
		t.Fatal(out)
	}
	return b
}

// A damage is one deliberate fault of imageToDamage.
type damage struct {
	name string
	// debugfs are its commands, patch changes bytes; repair then corrects checksums,
	// but not for raw.
	debugfs []string
	patch   func(v *patchedImage)
	raw     bool
	// alone is for what e2fsck looks at only if it may write.
	alone bool
	kind  ProblemKind
	// at is where the problem must be: a path, or "<8>"; "" for one in no inode.
	at string
}

func damages() []damage {
	const hard = "/dir/hard"
	return []damage{
		{name: "no type", debugfs: []string{"sif /a mode 0"}, kind: ProblemInode, at: "/a"},
		{name: "impossible type", debugfs: []string{"sif /a mode 0170644"}, kind: ProblemInode, at: "/a"},
		{name: "links", debugfs: []string{"sif /a links_count 5"}, kind: ProblemLinks, at: "/a"},
		{name: "links of a directory", debugfs: []string{"sif /dir links_count 9"}, kind: ProblemLinks, at: "/dir"},
		{name: "size before the end", debugfs: []string{"sif /a size 1"}, kind: ProblemSize, at: "/a"},
		{name: "size of a directory", debugfs: []string{"sif /dir size 1000"}, kind: ProblemSize, at: "/dir"},
		{name: "directory longer than its blocks", debugfs: []string{"sif /dir size 4096"}, kind: ProblemSize, at: "/dir"},
		{name: "size of a fifo", debugfs: []string{"sif /fifo size 5"}, kind: ProblemSize, at: "/fifo"},
		{name: "i_blocks", debugfs: []string{"sif /a blocks 2"}, kind: ProblemBlockCount, at: "/a"},
		{name: "deleted but there", debugfs: []string{"sif /a dtime 1600000000"}, kind: ProblemDeleted, at: "/a"},
		{name: "no time of deletion", debugfs: []string{"sif /a links_count 0"}, kind: ProblemDeleted, at: "/a"},
		{name: "cleared inode", debugfs: []string{"clri /a"}, kind: ProblemEntry, at: "/"},
		{name: "inode marked free", debugfs: []string{"freei /a"}, kind: ProblemInodeBitmap},
		{name: "free inode marked", debugfs: []string{"seti <500>"}, kind: ProblemInodeBitmap},
		{name: "block marked free", patch: func(v *patchedImage) { v.setBit(v.first("/a"), false) }, kind: ProblemBlockBitmap},
		{name: "free block marked", patch: func(v *patchedImage) { v.setBit(15000, true) }, kind: ProblemBlockBitmap},
		{name: "padding of the block bitmap", patch: func(v *patchedImage) { v.padding(1, true) }, kind: ProblemBlockBitmap},
		{name: "padding of the inode bitmap", patch: func(v *patchedImage) { v.padding(0, false) }, kind: ProblemInodeBitmap},
		{name: "free blocks", debugfs: []string{"ssv free_blocks_count 77"}, kind: ProblemFreeCount},
		{name: "free inodes", debugfs: []string{"ssv free_inodes_count 77"}, kind: ProblemFreeCount},
		{name: "free blocks of a group", debugfs: []string{"set_bg 0 free_blocks_count 77", "set_bg 0 checksum calc"}, kind: ProblemFreeCount},
		{name: "directories of a group", debugfs: []string{"set_bg 0 used_dirs_count 77", "set_bg 0 checksum calc"}, kind: ProblemFreeCount},
		{name: "bitmap elsewhere", debugfs: []string{"set_bg 0 block_bitmap 3", "set_bg 0 checksum calc"}, kind: ProblemGroup},
		{name: "table outside", debugfs: []string{"set_bg 1 inode_table 999999", "set_bg 1 checksum calc"}, kind: ProblemGroup},
		{name: "inodes not initialised", debugfs: []string{"set_bg 0 flags 1", "set_bg 0 checksum calc"}, kind: ProblemGroup},
		{name: "checksum of a group", debugfs: []string{"set_bg 0 checksum 0x1234"}, kind: ProblemGroup},
		{name: "unlinked", debugfs: []string{"unlink /a"}, kind: ProblemUnreachable, at: "/a"},
		{name: "unlinked directory", debugfs: []string{"unlink /dir/sub"}, kind: ProblemUnreachable, at: "/dir/sub"},
		{name: "one more name", debugfs: []string{"ln /a /dir/again"}, kind: ProblemLinks, at: "/a"},
		{name: "second name of a directory", debugfs: []string{"ln /dir /dir2"}, kind: ProblemEntry, at: "/"},
		{name: "name twice", patch: func(v *patchedImage) { v.entry("/dir", "g")[8] = 'f' }, kind: ProblemName, at: "/dir"},
		{name: "name of a reserved inode", debugfs: []string{"ln <8> /journal"}, kind: ProblemEntry, at: "/"},
		{name: "name of the root", debugfs: []string{"ln <2> /dir/root"}, kind: ProblemEntry, at: "/dir"},
		{name: "name with a slash", patch: func(v *patchedImage) { v.entry("/dir", "f")[8] = '/' }, kind: ProblemName, at: "/dir"},
		{name: "file type", patch: func(v *patchedImage) { v.entry("/dir", "f")[7] = disk.FTDir }, kind: ProblemFileType, at: "/dir"},
		{name: "dot", patch: func(v *patchedImage) { v.entry("/dir", ".")[0]++ }, kind: ProblemDots, at: "/dir"},
		{name: "dot dot", patch: func(v *patchedImage) { le.PutUint32(v.entry("/dir/sub", ".."), v.ino("/many")) }, kind: ProblemDots, at: "/dir/sub"},
		{name: "no dots", patch: func(v *patchedImage) { v.entry("/dir/sub", ".")[8] = 'x' }, kind: ProblemDots, at: "/dir/sub"},
		{name: "record of an entry", patch: func(v *patchedImage) { v.entry("/dir", "f")[4] = 10 }, kind: ProblemDirectory, at: "/dir"},
		{name: "record leaves the block", patch: func(v *patchedImage) { v.entry("/dir", "f")[5] = 8 }, kind: ProblemDirectory, at: "/dir"},
		{name: "directory of zeros", patch: func(v *patchedImage) { clear(v.block(v.first("/dir"))[:500]) }, kind: ProblemDirectory, at: "/dir"},
		{name: "hash of the index", patch: func(v *patchedImage) { v.block(v.first("/many"))[32+8+3] ^= 0x40 }, kind: ProblemIndex, at: "/many"},
		{name: "order of the index", patch: func(v *patchedImage) { le.PutUint32(v.block(v.first("/many"))[32+16:], 2) }, kind: ProblemIndex, at: "/many"},
		{name: "block of the index", patch: func(v *patchedImage) { v.block(v.first("/many"))[32+8+4] = 99 }, kind: ProblemIndex, at: "/many"},
		{name: "leaf twice", patch: func(v *patchedImage) { v.block(v.first("/many"))[32+8+4] = 1 }, kind: ProblemIndex, at: "/many"},
		{name: "count of the index", patch: func(v *patchedImage) { v.block(v.first("/many"))[34] = 0 }, kind: ProblemIndex, at: "/many"},
		{name: "levels of the index", patch: func(v *patchedImage) { v.block(v.first("/many"))[30] = 7 }, kind: ProblemIndex, at: "/many"},
		{name: "flag of an index", debugfs: []string{"sif /dir flags 0x81000"}, kind: ProblemIndex, at: "/dir"},
		{name: "flag of an index on a file", debugfs: []string{"sif /a flags 0x81000"}, kind: ProblemInode, at: "/a"},
		{name: "inline without the feature", debugfs: []string{"sif /link flags 0x10000000"}, kind: ProblemInode, at: "/link"},
		{name: "immutable fifo", debugfs: []string{"sif /fifo flags 0x10"}, kind: ProblemInode, at: "/fifo"},
		{name: "no extents", debugfs: []string{"sif /a flags 0"}, kind: ProblemMap, at: "/a"},
		{name: "magic of the extents", debugfs: []string{"sif /a block[0] 0"}, kind: ProblemMap, at: "/a"},
		{name: "extent outside", debugfs: []string{"sif /a block[5] 99999999"}, kind: ProblemBadBlock, at: "/a"},
		{name: "extent of no blocks", patch: func(v *patchedImage) { le.PutUint16(v.inode("/a")[0x28+16:], 0) }, kind: ProblemMap, at: "/a"},
		{name: "extents out of order", patch: func(v *patchedImage) { le.PutUint32(v.node("/big")[12+12:], 0) }, kind: ProblemMap, at: "/big"},
		{name: "node that is none", patch: func(v *patchedImage) { v.node("/big")[0] = 1 }, kind: ProblemMap, at: "/big"},
		{name: "node outside", patch: func(v *patchedImage) { le.PutUint32(v.inode("/big")[0x28+16:], 1<<24) }, kind: ProblemBadBlock, at: "/big"},
		{name: "blocks of another file", patch: func(v *patchedImage) { le.PutUint32(v.inode("/a")[0x28+20:], uint32(v.first(hard))) }, kind: ProblemSharedBlock, at: hard},
		{name: "blocks of metadata", patch: func(v *patchedImage) { le.PutUint32(v.inode("/a")[0x28+20:], 2) }, kind: ProblemSharedBlock, at: "/a"},
		{name: "length of a target", debugfs: []string{"sif /link size 3"}, kind: ProblemSymlink, at: "/link"},
		{name: "target in a block", patch: func(v *patchedImage) { v.block(v.first("/slow"))[5] = 0 }, kind: ProblemSymlink, at: "/slow"},
		{name: "attributes outside", debugfs: []string{"sif /x file_acl 9999999"}, kind: ProblemBadBlock, at: "/x"},
		{name: "attributes nowhere", patch: func(v *patchedImage) { clear(v.block(v.attrs("/x"))[:4]) }, kind: ProblemXattr, at: "/x"},
		{name: "users of attributes", patch: func(v *patchedImage) { v.block(v.attrs("/x"))[4] = 9 }, kind: ProblemXattr, at: "/x"},
		{name: "hash of an attribute", patch: func(v *patchedImage) { v.block(v.attrs("/x"))[32+12]++ }, kind: ProblemXattr, at: "/x"},
		{name: "value of an attribute", patch: func(v *patchedImage) { le.PutUint16(v.block(v.attrs("/x"))[32+2:], 1020) }, kind: ProblemXattr, at: "/x"},
		{name: "length of the fields", patch: func(v *patchedImage) { le.PutUint16(v.inode("/a")[128:], 200) }, kind: ProblemInode, at: "/a"},
		{name: "checksum of an inode", raw: true, patch: func(v *patchedImage) { v.inode("/a")[0x7c]++ }, kind: ProblemChecksum, at: "/a"},
		{name: "checksum of a node", raw: true, patch: func(v *patchedImage) { v.node("/big")[1020]++ }, kind: ProblemChecksum, at: "/big"},
		{name: "checksum of a directory", raw: true, patch: func(v *patchedImage) { v.block(v.first("/dir"))[1020]++ }, kind: ProblemChecksum, at: "/dir"},
		{name: "checksum of an index", raw: true, patch: func(v *patchedImage) { v.block(v.first("/many"))[1020]++ }, kind: ProblemChecksum, at: "/many"},
		{name: "checksum of attributes", raw: true, patch: func(v *patchedImage) { v.block(v.attrs("/x"))[16]++ }, kind: ProblemChecksum, at: "/x"},
		{name: "checksum of the superblock", raw: true, patch: func(v *patchedImage) { v.image[2047]++ }, kind: ProblemSuperblock},
		{name: "checksum of a bitmap", raw: true, patch: func(v *patchedImage) { v.bitmapSum() }, kind: ProblemChecksum},
		{name: "reserved blocks", patch: func(v *patchedImage) { le.PutUint32(v.image[1024+8:], 15000) }, kind: ProblemSuperblock},
		{name: "end of the image", patch: func(v *patchedImage) { v.image = v.image[:12<<20] }, raw: true, kind: ProblemTruncated},
		{name: "orphan", debugfs: []string{"ssv last_orphan 3"}, alone: true, kind: ProblemOrphan, at: "<3>"},
		{name: "journal that is none", debugfs: []string{"sif <8> mode 040600"}, kind: ProblemJournal, at: "<8>"},
		{name: "journal of zeros", patch: func(v *patchedImage) { clear(v.block(v.first("<8>"))) }, kind: ProblemJournal, at: "<8>"},
		{name: "resize inode", debugfs: []string{"sif <7> block[DIND] 5000"}, kind: ProblemResize, at: "<7>"},
		{name: "root", debugfs: []string{"sif <2> mode 0100755"}, kind: ProblemInode, at: "<2>"},
		{name: "the root is gone", debugfs: []string{"clri <2>"}, kind: ProblemUnreachable, at: "<2>"},
	}
}

// All that is broken deliberately is found by e2fsck and by us, and we say what it is.
func TestCheckFindsDamage(t *testing.T) {
	t.Parallel()
	image := imageToDamage(t)
	path := filepath.Join(testneed.Memory(t), "image")
	for _, d := range damages() {
		t.Run(d.name, func(t *testing.T) {
			v := patchImage(t, slices.Clone(image))
			want := uint32(0)
			if d.at != "" {
				want = v.ino(d.at)
			}
			if d.patch != nil {
				d.patch(v)
				if !d.raw {
					repair(v.image)
				}
			}
			if err := os.WriteFile(path, v.image, 0o600); err != nil {
				t.Fatal(err)
			}
			if d.debugfs != nil {
				t.Log(testneed.Debugfs(t, path, d.debugfs...))
			}
			if damaged, out := complains(t, path); !damaged && !d.alone {
				t.Errorf("e2fsck finds nothing: %s", out)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r, err := checkBytes(t, b)
			if err != nil {
				t.Fatal(err)
			}
			found := slices.ContainsFunc(r.Problems, func(p Problem) bool {
				return p.Kind == d.kind && (d.at == "" || p.Inode == want)
			})
			if !found {
				t.Errorf("no problem %q of inode %d in\n%v", d.kind, want, r)
			}
			if len(r.Problems) > 60 {
				t.Errorf("%d problems of one damage:\n%v", len(r.Problems), r)
			}
		})
	}
}

// Check ends when its context does, and says that it did not come to its end.
func TestCheckIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b, err := os.ReadFile(manyFiles(t, 0, 200))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Check(ctx, bytes.NewReader(b), int64(len(b))); err != context.Canceled {
		t.Errorf("%v, %v", r, err)
	}
}

// What an image claims to have costs nothing.
func TestCheckOfVastClaims(t *testing.T) {
	image := make([]byte, 1<<20)
	b, err := os.ReadFile(manyFiles(t, 0, 200))
	if err != nil {
		t.Fatal(err)
	}
	copy(image, b)
	v := patchImage(t, image)
	for blocks := uint64(1 << 20); blocks < 1<<45; blocks <<= 4 {
		sb := *v.v.sb
		sb.SetBlocks(blocks)
		sb.InodesPerGroup = 16
		sb.InodesCount = sb.Groups() * 16
		sb.Encode(v.image[disk.SuperblockOffset:][:disk.SuperblockSize])
		start := time.Now()
		r, err := checkBytes(t, v.image)
		if err != nil || r.OK() {
			t.Errorf("%d blocks: %v %v", blocks, err, r)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%d blocks took %v", blocks, took)
		}
	}
}

// Maps that share their blocks, and directories that do, do not multiply the work.
func TestCheckOfSharedMaps(t *testing.T) {
	v := patchImage(t, imageToDamage(t))
	big, many := bytes.Clone(v.inode("/big")), bytes.Clone(v.inode("/many"))
	for n := range 400 {
		path := fmt.Sprintf("/many/name-of-a-file-%d", n)
		if n%2 == 0 {
			copy(v.inode(path)[:128], big)
		} else {
			copy(v.inode(path)[:128], many)
		}
	}
	repair(v.image)
	r := checkLimits(t, v.image)
	if !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Kind == ProblemSharedBlock }) {
		t.Errorf("no block is shared: %v", r)
	}
}
