package ext4

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"banger/internal/base/testneed"
)

// TestLock: two sessions on one image exclude each other, and so do locks of the kind
// that QEMU takes on the image of a running machine.
func TestLock(t *testing.T) {
	path := mkfsImage(t, "-t ext4", 32)
	x := begin(t, path)
	other, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer other.Close()
	if _, err := Edit(other, 32<<20, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("a second session: %v", err)
	}
	must(t, x.Commit())
	y, err := Edit(other, 32<<20, nil)
	must(t, err)
	must(t, y.Close())

	// QEMU: shared locks on bytes from 100 and 200 on.
	qemu, err := os.Open(path)
	must(t, err)
	lock := syscall.Flock_t{Type: syscall.F_RDLCK, Start: 201, Len: 1}
	must(t, syscall.FcntlFlock(qemu.Fd(), ofdSetlk, &lock))
	if _, err := Edit(other, 32<<20, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("with QEMU: %v", err)
	}
	qemu.Close()
	y, err = Edit(other, 32<<20, nil)
	must(t, err)
	must(t, y.Close())

	readOnly, err := os.Open(path)
	must(t, err)
	defer readOnly.Close()
	if _, err := Edit(readOnly, 32<<20, nil); err == nil {
		t.Error("a file that is open for reading only")
	}
}

// TestKill kills a process that edits, over and over: the files of one
// session are all of one version.
func TestKill(t *testing.T) {
	if path := os.Getenv("BANGER_EXT4_KILL"); path != "" {
		killed(path)
		return
	}
	path := mkfsImage(t, "-t ext4 -b 1024 -J size=1 -N 256", 16)
	rng := rand.New(rand.NewPCG(3, 4))
	versions := map[string]bool{}
	rounds := 18
	if testing.Short() {
		rounds = 6
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "BANGER_EXT4_KILL="+path)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		if !bufio.NewScanner(out).Scan() { // its first session is done
			t.Fatal("the child does not begin")
		}
		time.Sleep(time.Duration(rng.IntN(20_000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		switch round % 3 {
		case 1:
			testneed.Run(t, "e2fsck", "-fy", "-E", "journal_only", path)
			quiet(t, path)
		case 2:
			session(t, path, func(x *Tx) { must(t, x.Mkdir("/", Attr{Mode: 0o755})) })
			quiet(t, path)
		}
		f, im := opened(t, path)
		first, err := im.ReadFile("0")
		must(t, err)
		for i := range 5 {
			b, err := im.ReadFile(fmt.Sprint(i))
			must(t, err)
			if len(b) < 1000 || !bytes.Equal(b[:100], first[:100]) || !bytes.Equal(b, bytes.Repeat(b[:100], len(b)/100)) {
				t.Fatalf("round %d: file %d has %.30q, file 0 %.30q", round, i, b, first)
			}
		}
		versions[string(first[:100])] = true
		f.Close()
	}
	session(t, path, func(x *Tx) { must(t, x.Mkdir("/", Attr{Mode: 0o755})) })
	quiet(t, path)
	t.Logf("%d kills, %d different versions found", rounds, len(versions))
}

// killed edits until it is killed.
func killed(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	for {
		x, err := Edit(f, 16<<20, nil)
		if err != nil {
			panic(err)
		}
		version := fmt.Appendf(nil, "%0100d", time.Now().UnixNano())
		for i := range 5 {
			if err := x.WriteFile(fmt.Sprint(i), bytes.NewReader(bytes.Repeat(version, 10+i*200)), Attr{Mode: 0o600}); err != nil {
				panic(err)
			}
		}
		if err := x.Commit(); err != nil {
			panic(err)
		}
		fmt.Println("done")
	}
}
