package ext4

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// Damaged metadata may be refused or not, but nothing panics, hangs, or takes memory
// without end. The images have no checksums, so that the damage gets through.
func TestResizeDamaged(t *testing.T) {
	t.Parallel()
	rounds := 40 / stepOf(5)
	seed := seedOf(t)
	for _, args := range []string{
		"-t ext3 -b 1024 -g 1024 -J size=1 -N 200", "-t ext4 -b 1024 -g 1024 -G 4 -O ^metadata_csum,^uninit_bg -J size=1 -N 200",
		"-t ext4 -b 1024 -g 1024 -O ^metadata_csum,^resize_inode,meta_bg -J size=1 -N 200",
	} {
		path := mkfsImage(t, args, 12)
		plantFiles(t, path)
		image, err := os.ReadFile(path)
		must(t, err)
		v := openImage(t, path).v
		// What is read: superblock, descriptors, inodes 7 and 8, bitmaps, the resize
		// inode's map.
		places := []int64{1024, 2048, 3072}
		for n := range v.groups {
			g, err := v.group(n)
			must(t, err)
			places = append(places, int64(g.BlockBitmap)*1024, int64(g.InodeBitmap)*1024)
		}
		g, err := v.group(0)
		must(t, err)
		places = append(places, int64(g.InodeTable)*1024, int64(g.InodeTable)*1024+1024, int64(g.InodeTable)*1024)
		if i, _, err := v.inode(7); err == nil {
			places = append(places, int64(le.Uint32(i.Block[4*13:]))*1024)
		}
		rng := rand.New(rand.NewPCG(seed, uint64(len(args))))
		done, refused := 0, 0
		for round := range rounds {
			r := &resizeRecorder{now: bytes.Clone(image), left: -1}
			for range 1 + rng.IntN(3) {
				at := places[rng.IntN(len(places))] + rng.Int64N(1024)
				switch rng.IntN(3) {
				case 0:
					r.now[at] ^= 1 << rng.IntN(8)
				case 1:
					r.now[at] = byte(rng.Uint32())
				default:
					le.PutUint32(r.now[at&^3:], rng.Uint32()>>rng.IntN(32))
				}
			}
			start := time.Now()
			for _, change := range []func() error{
				func() error { return Grow(r, 30<<20, &testOptions) },
				func() error { _, err := Trim(r); return err },
				func() error { return Shrink(r, int64(4+rng.IntN(24))<<20, &testOptions) },
				func() error { return SetLabel(r, "x") },
			} {
				if change() == nil {
					done++
				} else {
					refused++
				}
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("round %d took %v", round, d)
			}
		}
		t.Logf("%q: %d done, %d refused", args, done, refused)
	}
}
