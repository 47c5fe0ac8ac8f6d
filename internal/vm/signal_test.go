package vm_test

import (
	"syscall"
	"testing"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]syscall.Signal{
		"KILL": 9, "SIGKILL": 9, "kill": 9, "9": 9, "64": 64, "SIGRTMIN+3": 37, "rtmin": 34, "RTMAX-1": 63, "SIGRTMAX": 64,
	} {
		if got, err := vm.ParseSignal(s); err != nil || got != want {
			t.Errorf("ParseSignal(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "65", "-1", "NONE", "SIGSIGKILL", "SIGRTMIN3", "SIGRTMIN+31", "SIGRTMIN-1", "SIGRTMAX+1", "SIGRTMIN+x", "SIG"} {
		if got, err := vm.ParseSignal(s); errs.KindOf(err) != errs.Invalid || errs.HintOf(err) == "" {
			t.Errorf("ParseSignal(%q) = %d, %v; want a refusal with a hint", s, got, err)
		}
	}
}
