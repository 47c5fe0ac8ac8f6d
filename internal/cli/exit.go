package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"banger/internal/base/errs"
	"banger/internal/cli/term"
)

// Exit statuses of banger itself, beside those of commands in guests.
const (
	exitInternal    = 120
	exitInvalid     = 121
	exitNotFound    = 122
	exitConflict    = 123
	exitTimeout     = 124
	exitUnavailable = 125
	exitInterrupted = 130
	// exitPipe is 128 and SIGPIPE, as shells report it.
	exitPipe = 141
)

const exitHelp = `The exit status of "banger vm run" and "banger vm exec" is the command's own;
a command that a signal n ended gives 128+n. Failures of banger use this band:

  120  an internal failure: please report it
  121  wrong usage: an unknown command or flag, a bad name or size
  122  the VM, image, kernel or file does not exist
  123  the name is taken, or the state of the VM or disk does not allow it
  124  a time limit has passed
  125  something is missing or does not answer: a tool of the host, the daemon,
       or a VM that stopped while a command ran in it
  126  the command cannot be run in the guest
  127  the command does not exist in the guest
  130  interrupted
  141  nobody reads the output any more

"banger disk check" ends with 1 if the file system is damaged.

With several VMs the status is that of the first one that failed, in the order
of the arguments.`

// statusError ends banger with a status and no message: a guest command's.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// manyErrors are the failures of several VMs, in the order of the arguments.
type manyErrors []error

func (e manyErrors) Error() string   { return errors.Join(e...).Error() }
func (e manyErrors) Unwrap() []error { return e }

// exitCode maps an error to the exit status: the one place that does.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if status, ok := errors.AsType[statusError](err); ok {
		return int(status)
	}
	if errors.Is(err, syscall.EPIPE) {
		return exitPipe
	}
	switch errs.KindOf(err) {
	case errs.Invalid:
		return exitInvalid
	case errs.NotFound:
		return exitNotFound
	case errs.Exists, errs.Conflict:
		return exitConflict
	case errs.Timeout:
		return exitTimeout
	case errs.Unavailable:
		return exitUnavailable
	case errs.Canceled:
		return exitInterrupted
	}
	return exitInternal
}

// report tells the user of a failure.
func report(w io.Writer, err error) {
	if many, ok := err.(manyErrors); ok { //nolint:errorlint // only a list at the top is reported one by one
		for _, e := range many {
			report(w, e)
		}
		return
	}
	if _, ok := errors.AsType[statusError](err); ok || err == nil || errors.Is(err, syscall.EPIPE) {
		return
	}
	text := err.Error()
	if errs.KindOf(err) == errs.Canceled {
		text = "interrupted"
	}
	say(w, text)
	if hint := errs.HintOf(err); hint != "" {
		_, _ = fmt.Fprintln(w, "  try: "+term.CleanText(hint))
	}
}

// say writes one message of banger's own to the user.
func say(w io.Writer, text string) {
	prefix := "banger:"
	if term.IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		prefix = "\x1b[31mbanger:\x1b[0m"
	}
	_, _ = fmt.Fprintln(w, prefix+" "+term.CleanText(strings.TrimRight(text, "\n")))
}

// usage is an error of wrong usage, with the help of the command at path as its hint.
func usage(path, format string, args ...any) error {
	return errs.New(errs.Invalid, format, args...).WithHint("%s --help", path)
}
