package guestlink_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"banger/internal/guestabi"
	"banger/internal/guestlink"
)

// pair is a serial link, both ends.
func pair(t *testing.T) (host, guest guestlink.Link) {
	t.Helper()
	a, b := net.Pipe()
	host, err := guestlink.HostSerial(a)
	if err != nil {
		t.Fatal(err)
	}
	if guest, err = guestlink.GuestSerial(b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = host.Close()
		_ = guest.Close()
	})
	return host, guest
}

// serve answers each stream with what it got.
func serve(t *testing.T, l guestlink.Link) {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, guestlink.ErrDown) {
					t.Errorf("Accept: %v, want ErrDown", err)
				}
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
}

func roundTrip(t *testing.T, l guestlink.Link, data []byte) error {
	c, err := l.Dial(t.Context())
	if err != nil {
		return err
	}
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if err := <-sent; err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return errors.New("the data changed on the way")
	}
	return nil
}

func TestStreamsBothWaysAtOnce(t *testing.T) {
	host, guest := pair(t)
	serve(t, host)
	serve(t, guest)
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	var wg sync.WaitGroup
	for range 8 {
		for _, l := range []guestlink.Link{host, guest} {
			wg.Go(func() {
				if err := roundTrip(t, l, data); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
}

func TestAStreamThatNobodyReadsBlocksNoOther(t *testing.T) {
	host, guest := pair(t)
	serve(t, guest)
	stuck, err := host.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if err := stuck.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = stuck.Write(make([]byte, 4<<20)) // its echo is never read
	if err := roundTrip(t, host, []byte("through")); err != nil {
		t.Error(err)
	}
}

func TestGarbageTakesTheLinkDown(t *testing.T) {
	a, b := net.Pipe()
	host, err := guestlink.HostSerial(a)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	defer b.Close()
	go func() { _, _ = io.Copy(io.Discard, b) }()
	junk := make([]byte, 4096)
	_, _ = rand.Read(junk)
	junk[0] = 0xff // no version of yamux
	if _, err := b.Write(junk[:12]); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Accept(); !errors.Is(err, guestlink.ErrDown) {
		t.Errorf("Accept: %v, want ErrDown", err)
	}
	if _, err := host.Dial(t.Context()); !errors.Is(err, guestlink.ErrDown) {
		t.Errorf("Dial: %v, want ErrDown", err)
	}
}

// vsockSide answers the handshake as Firecracker does; reply stands for "OK …".
func vsockSide(t *testing.T, reply string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "v")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 64)
			n, _ := c.Read(buf)
			if want := fmt.Sprintf("CONNECT %d\n", guestabi.AgentPort); string(buf[:n]) != want {
				t.Errorf("the handshake is %q, want %q in one piece", buf[:n], want)
			}
			_, _ = io.WriteString(c, reply)
			_ = c.Close()
		}
	}()
	return path
}

func TestVsockHandshake(t *testing.T) {
	for _, c := range []struct{ reply, want string }{
		{"OK 1073741824\npayload", "payload"}, {"", "refused"}, {"NO\n", "answered"}, {"OK 1", "refused"}, {strings.Repeat("x", 100), "answered"},
	} {
		l, err := guestlink.HostVsock(vsockSide(t, c.reply))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Dial(t.Context())
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("reply %q: %v, want %q", c.reply, err, c.want)
			}
		} else {
			got, _ := io.ReadAll(conn)
			if string(got) != c.want {
				t.Errorf("reply %q: read %q, want %q", c.reply, got, c.want)
			}
			_ = conn.Close()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestVsockAcceptsTheGuestsStreams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	l, err := guestlink.HostVsock(path)
	if err != nil {
		t.Fatal(err)
	}
	socket := fmt.Sprintf("%s_%d", path, guestabi.HostPort)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v; want mode 0600", info, err)
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = accepted.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, guestlink.ErrDown) {
		t.Errorf("Accept after Close: %v", err)
	}
	if _, err := l.Dial(context.Background()); err == nil {
		t.Error("Dial without a VMM: no error")
	}
}
