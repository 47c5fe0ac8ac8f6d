package agent

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	guestv1 "banger/api/guest/v1"
	"banger/internal/base/errs"
)

const (
	// systemctlTimeout bounds the question to systemd about its own state.
	systemctlTimeout = 2 * time.Second
	// clockSlack is how far the clock may be off before it is set.
	clockSlack = time.Second
	// agentOOMScore keeps the agent alive when memory runs out; commandOOMScore is
	// what everything else has (proc_pid_oom_score_adj(5)).
	agentOOMScore, commandOOMScore = -999, 0
)

// Health answers when the agent is well.
func (s *service) Health(ctx context.Context, _ *guestv1.HealthRequest) (*guestv1.HealthResponse, error) {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return nil, err
	}
	return &guestv1.HealthResponse{
		UptimeMs: up.Nano() / int64(time.Millisecond), BootId: bootID(), System: systemState(ctx), UnixNanos: time.Now().UnixNano(),
	}, nil
}

// systemState is what systemd says of the system, or empty if PID 1 is another
// program or does not answer.
func systemState(ctx context.Context) string {
	if initName() != systemd {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, systemctlTimeout)
	defer cancel()
	// Its exit status repeats the word.
	out, _ := exec.CommandContext(ctx, "systemctl", "is-system-running").Output()
	return strings.TrimSpace(string(out))
}

// SetTime sets the clock if it is off by more than a second.
func (s *service) SetTime(_ context.Context, req *guestv1.SetTimeRequest) (*guestv1.SetTimeResponse, error) {
	offset, err := setClock(req.GetUnixNanos())
	if err != nil {
		return nil, err
	}
	return &guestv1.SetTimeResponse{OffsetNanos: int64(offset)}, nil
}

// setClock sets the clock to host, in nanoseconds since 1970, if it is off by more
// than clockSlack. It returns how far it was behind.
func setClock(host int64) (time.Duration, error) {
	if host <= 0 {
		return 0, errs.New(errs.Invalid, "cannot set the clock to %d ns after 1970", host)
	}
	offset := time.Duration(host - time.Now().UnixNano())
	if offset.Abs() <= clockSlack {
		return offset, nil
	}
	ts := unix.NsecToTimespec(host)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return 0, errs.New(errs.Internal, "cannot set the clock: %w", err)
	}
	return offset, nil
}

func bootID() string        { return readLine("/proc/sys/kernel/random/boot_id") }
func kernelRelease() string { return readLine("/proc/sys/kernel/osrelease") }

// readLine is the content of one of the kernel's own files, without its end of
// line.
func readLine(path string) string {
	data, _ := os.ReadFile(path)
	return strings.TrimSpace(string(data))
}

func protectFromOOM(pid, score int) error {
	return os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(strconv.Itoa(score)), 0)
}
