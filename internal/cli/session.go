package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	bangerv1 "banger/api/banger/v1"
	guestv1 "banger/api/guest/v1"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
)

// session is a command in a guest, with our own streams, signals and terminal.
type session struct {
	app    *app
	daemon *client.Client
	vm     *bangerv1.VM
	start  *guestv1.ExecStart
	// stdin: our standard input is the command's.
	stdin bool
	// vanished says, after run, that the connection broke before the command ended,
	// refused that the command could not be run.
	vanished, refused bool
}

// ttyFlags say whether a command gets a terminal.
type ttyFlags struct{ tty, noTTY, interactive bool }

func (f *ttyFlags) register(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal; the default when we are on one")
	flags.BoolVarP(&f.noTTY, "no-tty", "T", false, "give the command no terminal")
	flags.BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input on to the command, even from /dev/null")
}

// wanted decides; a login shell on a terminal gets one wherever its output goes.
func (f ttyFlags) wanted(a *app, shell bool) bool {
	switch {
	case f.noTTY:
		return false
	case f.tty:
		return true
	}
	return term.IsTerminal(a.in) && (shell || term.IsTerminal(a.out))
}

// setTTY asks for a terminal like ours.
func (s *session) setTTY() {
	size := term.SizeOf(s.app.in)
	s.start.Tty = &guestv1.WindowSize{Rows: size.Rows, Cols: size.Cols}
	s.start.Term = os.Getenv("TERM")
	if s.start.Term == "" {
		s.start.Term = "dumb"
	}
}

// run runs the command to its end. A status other than 0 is a statusError.
func (s *session) run(ctx context.Context) error {
	agent, closeAgent := client.Guest(s.vm.GetGuestSocket())
	defer closeAgent()
	e := execution{agent: agent, start: s.start, out: s.app.out, err: s.app.err}
	if s.stdin {
		e.in = s.app.in
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	if s.start.GetTty() != nil {
		end, err := s.takeTerminal(&e)
		if err != nil {
			return err
		}
		defer end()
	} else {
		// A terminal in raw mode makes no signals; elsewhere they are the command's.
		signals := make(chan syscall.Signal, 8)
		e.signals = signals
		s.app.setForward(forwarder(signals, giveUp))
		defer s.app.setForward(nil)
	}
	exit, err := e.run(ctx)
	s.app.restoreTerminal()
	if err != nil {
		return s.explain(ctx, err)
	}
	if text := exit.GetError(); text != "" {
		s.refused = true
		say(s.app.err, text)
	}
	if code := exit.GetCode(); code != 0 {
		if code < 0 || code > 255 { // the guest's word
			code = 255
		}
		return statusError(code)
	}
	return nil
}

// takeTerminal puts our terminal, if we are on one, into raw mode and lets its
// size follow.
func (s *session) takeTerminal(e *execution) (end func(), err error) {
	if !term.IsTerminal(s.app.in) {
		return func() {}, nil
	}
	f := s.app.in.(*os.File) //nolint:forcetypeassert // IsTerminal has looked
	restore, err := term.Raw(f)
	if err != nil {
		return nil, fmt.Errorf("cannot put the terminal into raw mode: %w", err)
	}
	s.app.setRestore(restore)
	sizes, stop := term.Resizes(f)
	e.sizes = sizes
	return func() {
		stop()
		restore()
	}, nil
}

// patience is how many interrupts a command may take without ending.
const patience = 3

// forwarder hands signals to the command without waiting. The third interrupt
// gives the command up, which may not be reading anything any more.
func forwarder(signals chan<- syscall.Signal, giveUp context.CancelCauseFunc) func(syscall.Signal) {
	interrupts := 0
	return func(s syscall.Signal) {
		if s == syscall.SIGINT {
			if interrupts++; interrupts >= patience {
				giveUp(context.Canceled)
				return
			}
		}
		select {
		case signals <- s:
		default:
		}
	}
}

// explainTimeout bounds the question to the daemon why a VM went away.
const explainTimeout = 2 * time.Second

// explain turns a broken connection to the guest into what happened to the VM.
func (s *session) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil || !slices.Contains([]errs.Kind{errs.Unavailable, errs.Internal, errs.Canceled}, errs.KindOf(err)) {
		return err
	}
	if _, ours := err.(outputError); ours { //nolint:errorlint // returned bare
		return err
	}
	s.vanished = true
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), explainTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	name := s.vm.GetName()
	for {
		r, askErr := s.daemon.VMs.Get(ask, &bangerv1.GetRequest{Vm: s.vm.GetId()})
		v := r.GetVm()
		switch {
		case errs.KindOf(askErr) == errs.NotFound:
			return errs.New(errs.Unavailable, "the VM stopped while the command ran, and was deleted")
		case askErr == nil && v.GetBootId() != "" && v.GetBootId() != s.vm.GetBootId():
			return errs.New(errs.Unavailable, "the VM was restarted while the command ran")
		case askErr == nil && v.GetState() == bangerv1.State_STATE_STOPPED:
			reason := strings.TrimSpace(v.GetReason())
			if reason == "" {
				reason = "no reason is known"
			}
			return errs.New(errs.Unavailable, "the VM stopped while the command ran: %s", reason).WithHint("banger vm start %s", name)
		}
		// The daemon may learn of the end a little later than we.
		select {
		case <-tick.C:
		case <-ask.Done():
			return errs.New(errs.Unavailable, "the connection to the VM %q broke: %w", name, err).WithHint("banger vm show %s", name)
		}
	}
}
