package shims

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	shimv1 "banger/api/shim/v1"
	"banger/api/shim/v1/shimv1connect"
	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/guestabi"
	"banger/internal/rpc"
)

// Shim is the daemon's connection to one shim.
type Shim struct {
	shims   *Shims
	files   paths.VM
	client  *rpc.Client
	api     shimv1connect.ShimServiceClient
	updates chan *shimv1.Status
	cancel  context.CancelFunc
	done    chan struct{} // closed when watch has ended
	// reaped is closed when the process has been waited for; nil for a shim that an
	// earlier daemon started, which pidfd stands for.
	reaped <-chan struct{}
	pidfd  int

	mu   sync.Mutex
	last *shimv1.Status
}

// connect begins to watch the shim at the VM's socket and waits for its first status.
func (s *Shims) connect(ctx context.Context, files paths.VM, reaped <-chan struct{}) (*Shim, error) {
	client := rpc.NewClient(rpc.Unix(files.ShimSocket()), guestabi.MaxMessage)
	watchCtx, cancel := context.WithCancel(context.Background())
	sh := &Shim{
		shims: s, files: files, client: client, api: shimv1connect.NewShimServiceClient(client.Client),
		updates: make(chan *shimv1.Status, 16), cancel: cancel, done: make(chan struct{}), reaped: reaped,
	}
	// A caller who gives up ends the watch; after the first status, only Close does.
	stop := context.AfterFunc(ctx, cancel)
	stream, err := sh.api.Watch(watchCtx, &shimv1.WatchRequest{})
	var first *shimv1.WatchResponse
	if err == nil {
		first, err = stream.Receive()
	}
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		cancel()
		client.Close()
		return nil, fmt.Errorf("cannot reach the shim: %w", err)
	}
	sh.last = first.GetStatus()
	if reaped == nil { // not our child: a descriptor tells of its end
		if sh.pidfd, err = unix.PidfdOpen(int(sh.last.GetShimPid()), 0); err != nil {
			sh.pidfd = -1 // gone already
		}
	}
	sh.updates <- first.GetStatus()
	go sh.watch(watchCtx, stream)
	return sh, nil
}

// receiver is the watch stream.
type receiver interface {
	Receive() (*shimv1.WatchResponse, error)
}

// watch passes every status on. It ends with one whose phase is PHASE_EXITED,
// when nothing of the VM runs any more, unless Close ends it first.
func (sh *Shim) watch(ctx context.Context, stream receiver) {
	defer close(sh.done)
	defer close(sh.updates)
	defer func() {
		if sh.reaped == nil && sh.pidfd >= 0 {
			_ = unix.Close(sh.pidfd)
		}
	}()
	defer sh.client.Close()
	for {
		r, err := stream.Receive()
		if err != nil {
			break
		}
		st := r.GetStatus()
		sh.mu.Lock()
		sh.last = st
		sh.mu.Unlock()
		if st.GetPhase() == shimv1.Phase_PHASE_EXITED {
			break
		}
		sh.updates <- st
	}
	if ctx.Err() != nil {
		return
	}
	// However it ended: the VM is down when the lock is free.
	if err := sh.shims.waitUnlocked(sh.files.Lock()); err != nil {
		sh.shims.log.Error("the VM's lock", "err", err)
	}
	sh.waitProcess()
	last := readExit(sh.files.Exit())
	if last == nil {
		sh.mu.Lock()
		announced := sh.last.GetAnnounced()
		sh.mu.Unlock()
		last = &shimv1.Status{Phase: shimv1.Phase_PHASE_EXITED, Announced: announced, Reason: "its shim died, and the VMM with it"}
	}
	if err := os.RemoveAll(sh.files.Run); err != nil {
		sh.shims.log.Error("cannot remove the VM's sockets", "err", err)
	}
	sh.updates <- last
}

// waitProcess waits for the end of a shim that has let go of the lock.
func (sh *Shim) waitProcess() {
	if sh.reaped != nil {
		<-sh.reaped
		return
	}
	if sh.pidfd < 0 {
		return
	}
	for deadline := time.Now().Add(attachTimeout); time.Now().Before(deadline); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(sh.pidfd), Events: unix.POLLIN}}, int(attachTimeout.Milliseconds()))
		if n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return
		}
	}
}

// Updates carries each status; the one with PHASE_EXITED comes last, when the VM's
// processes have gone and its disks are free. It is closed then, or by Close.
func (sh *Shim) Updates() <-chan *shimv1.Status { return sh.updates }

// Shutdown asks for an orderly end; past the timeout the VM is killed.
func (sh *Shim) Shutdown(ctx context.Context, timeout time.Duration) error {
	_, err := sh.api.Shutdown(ctx, &shimv1.ShutdownRequest{TimeoutMs: timeout.Milliseconds()})
	return err
}

// killTimeout bounds a shim's answer to Kill; after it the shim itself is killed,
// and its VMM with it.
const killTimeout = 5 * time.Second

// Kill sends a signal to the VMM; for SIGKILL it also ends a shim that hangs.
func (sh *Shim) Kill(ctx context.Context, sig syscall.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	_, err := sh.api.Kill(ctx, &shimv1.KillRequest{Signal: int32(sig)})
	if err == nil || sig != syscall.SIGKILL || errs.KindOf(err) == errs.Invalid {
		return err
	}
	sh.mu.Lock()
	pid := int(sh.last.GetShimPid())
	sh.mu.Unlock()
	if running, lockErr := runs(sh.files.Lock()); !running || lockErr != nil || pid <= 0 {
		return lockErr // it is down already
	}
	sh.shims.log.Warn("the shim does not answer and is killed", "pid", pid, "err", err)
	return syscall.Kill(pid, syscall.SIGKILL)
}

// Close stops watching; the VM runs on.
func (sh *Shim) Close() {
	sh.cancel()
	for range sh.updates { // watch may stand at a full channel
	}
	<-sh.done
}
