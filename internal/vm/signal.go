package vm

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"banger/internal/base/errs"
)

// maxSignal is Linux's last real-time signal, realtimeMin the first that glibc
// leaves to programs (signal(7)).
const (
	maxSignal   = 64
	realtimeMin = 34
)

// ParseSignal reads the name or number of a signal of Linux: "KILL", "SIGKILL",
// "kill", "9", "SIGRTMIN+3".
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n >= 1 && n <= maxSignal {
			return syscall.Signal(n), nil
		}
	} else if n := signalByName("SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")); n != 0 {
		return n, nil
	}
	return 0, errs.New(errs.Invalid, "unknown signal %q", s).WithHint("give a name such as KILL, or a number from 1 to %d", maxSignal)
}

func signalByName(name string) syscall.Signal {
	if n := unix.SignalNum(name); n != 0 {
		return n
	}
	for base, first := range map[string]int{"SIGRTMIN": realtimeMin, "SIGRTMAX": maxSignal} {
		offset, ok := strings.CutPrefix(name, base)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(offset)
		signed := err == nil && (offset[0] == '+' || offset[0] == '-')
		if number := first + n; (offset == "" || signed) && number >= realtimeMin && number <= maxSignal {
			return syscall.Signal(number)
		}
	}
	return 0
}
