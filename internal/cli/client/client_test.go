package client

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/rpc"
)

// TestMain makes the test binary the daemon that Connect starts, as banger is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "daemon" && os.Args[2] == "serve" {
		os.Exit(fakeDaemon())
	}
	os.Exit(m.Run())
}

type fakeHost struct {
	bangerv1connect.UnimplementedHostServiceHandler
}

func (fakeHost) Status(context.Context, *bangerv1.StatusRequest) (*bangerv1.StatusResponse, error) {
	return &bangerv1.StatusResponse{Pid: int32(os.Getpid())}, nil
}

// fakeDaemon serves Status until SIGTERM. FAKE_DAEMON says how it fails instead.
func fakeDaemon() int {
	ready := os.NewFile(3, "ready")
	switch os.Getenv("FAKE_DAEMON") {
	case "fail":
		fmt.Fprintln(ready, "the database is corrupt")
		return 1
	case "silent":
		return 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	dirs, err := paths.FromEnv()
	if err != nil {
		return 1
	}
	lock, err := os.OpenFile(dirs.DaemonLock(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil || unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		fmt.Fprintln(ready, "another daemon runs already")
		return 1
	}
	fmt.Println("the daemon starts")
	l, err := rpc.ListenUnix(dirs.DaemonSocket())
	if err != nil {
		fmt.Fprintln(ready, err)
		return 1
	}
	s := rpc.NewServer(maxMessage, slog.Default())
	bangerv1connect.RegisterHostServiceHandler(s.Methods, fakeHost{})
	go func() { <-stop; _ = s.Close() }()
	fmt.Fprintln(ready, "ok")
	_ = ready.Close()
	_ = s.Serve(l)
	return 0
}

// newHome gives the test folders of its own and ends the daemon that it leaves.
func newHome(t *testing.T) paths.Dirs {
	t.Helper()
	dir, err := os.MkdirTemp("", "bc") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir+"/r")
	t.Setenv("XDG_STATE_HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	dirs, err := paths.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c, err := ConnectIfRunning(context.Background()); err == nil && c != nil {
			stopDaemon(t, c)
			c.Close()
		}
		_ = os.RemoveAll(dir)
	})
	return dirs
}

func pid(t *testing.T, c *Client) int {
	t.Helper()
	s, err := c.Host.Status(context.Background(), &bangerv1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return int(s.GetPid())
}

// stopDaemon ends the daemon and waits for its end.
func stopDaemon(t *testing.T, c *Client) {
	t.Helper()
	endProcess(t, pid(t, c), syscall.SIGTERM)
}

// endProcess sends a signal and waits until the process has ended.
func endProcess(t *testing.T, p int, s syscall.Signal) {
	t.Helper()
	fd, err := unix.PidfdOpen(p, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := syscall.Kill(p, s); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n != 1 {
		t.Fatalf("process %d does not end: %v", p, err)
	}
}

func TestConnectStartsOneDaemon(t *testing.T) {
	dirs := newHome(t)
	if c, err := ConnectIfRunning(t.Context()); c != nil || err != nil {
		t.Fatalf("ConnectIfRunning = %v, %v before any daemon", c, err)
	}
	var mu sync.Mutex
	pids := map[int]bool{}
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			c, err := Connect(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			mu.Lock()
			defer mu.Unlock()
			pids[pid(t, c)] = true
		})
	}
	wg.Wait()
	if len(pids) != 1 {
		t.Errorf("daemons %v, want one", pids)
	}
	for p := range pids {
		if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p)); err != nil || cwd != "/" {
			t.Errorf("the daemon's folder is %q, %v", cwd, err)
		}
		if sid, err := unix.Getsid(p); err != nil || sid != p {
			t.Errorf("the daemon's session is %d, %v; want its own", sid, err)
		}
	}
	if log, err := os.ReadFile(dirs.DaemonLog()); err != nil || !strings.Contains(string(log), "the daemon starts") {
		t.Errorf("the log is %q, %v", log, err)
	}
}

func TestConnectAfterADaemonWasKilled(t *testing.T) {
	dirs := newHome(t)
	first, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	old := pid(t, first)
	endProcess(t, old, syscall.SIGKILL)
	if _, err := os.Stat(dirs.DaemonSocket()); err != nil {
		t.Fatalf("no stale socket to try: %v", err)
	}
	second, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if p := pid(t, second); p == old {
		t.Errorf("the daemon still is %d", p)
	}
}

func TestConnectTellsWhyADaemonDoesNotStart(t *testing.T) {
	for mode, want := range map[string]string{"fail": "the database is corrupt", "silent": "without a word"} {
		t.Run(mode, func(t *testing.T) {
			dirs := newHome(t)
			t.Setenv("FAKE_DAEMON", mode)
			_, err := Connect(t.Context())
			if errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), want) || !strings.Contains(errs.HintOf(err), dirs.DaemonLog()) {
				t.Errorf("Connect: %v (kind %s, hint %q); want %q and the log", err, errs.KindOf(err), errs.HintOf(err), want)
			}
		})
	}
}

func TestConnectGivesUpWithItsContext(t *testing.T) {
	dirs := newHome(t)
	held, err := lock(t.Context(), dirs.StartLock())
	if err != nil {
		t.Fatal(err)
	}
	defer held()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx); errs.KindOf(err) != errs.Timeout {
		t.Errorf("Connect while another one starts the daemon: %v", err)
	}
}

func TestConnectWaitsForADaemonThatEnds(t *testing.T) {
	dirs := newHome(t)
	// It has closed its socket and still holds its lock.
	dying, err := lock(t.Context(), dirs.DaemonLock())
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(100*time.Millisecond, dying)
	defer timer.Stop()
	c, err := Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
