package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
	"banger/internal/base/version"
	"banger/internal/cli/client"
)

// daemonEnd bounds the time from the daemon's answer to its end.
const daemonEnd = 15 * time.Second

// statusJSON is the daemon in --json output.
type statusJSON struct {
	Running    bool       `json:"running"`
	PID        int32      `json:"pid"`
	Version    string     `json:"version"`
	Socket     string     `json:"socket"`
	StateDir   string     `json:"state_dir"`
	StartedAt  *time.Time `json:"started_at"`
	VMs        int32      `json:"vms"`
	RunningVMs int32      `json:"running_vms"`
	Log        string     `json:"log"`
	Binary     string     `json:"binary"`
}

func (a *app) daemonCommand() *cobra.Command {
	c := group("daemon", "Look at the daemon, which starts by itself", "")
	c.AddCommand(a.daemonStatusCommand(), a.daemonStopCommand())
	return c
}

func (a *app) daemonStatusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Show the daemon's state; does not start it",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := daemonStatus(cmd.Context())
			if err != nil {
				return err
			}
			if s != nil && s.GetVersion() != version.String() {
				say(a.err, fmt.Sprintf("the daemon is of version %s, this command of version %s; the next command after \"banger daemon stop\" starts the new one",
					s.GetVersion(), version.String()))
			}
			if asJSON {
				return writeJSON(a.out, statusJSON{
					Running: s != nil, PID: s.GetPid(), Version: s.GetVersion(), Socket: s.GetSocket(), StateDir: s.GetStateDir(),
					StartedAt: timeOf(s.GetStartedAt()), VMs: s.GetVms(), RunningVMs: s.GetRunning(), Log: s.GetLog(), Binary: s.GetBinary(),
				})
			}
			if s == nil {
				return writeFields(a.out, [][2]string{{"running", "no"}})
			}
			return writeFields(a.out, [][2]string{
				{"running", "yes"}, {"pid", strconv.Itoa(int(s.GetPid()))}, {"version", s.GetVersion()}, {"binary", s.GetBinary()},
				{"started", timeText(s.GetStartedAt())}, {"VMs", fmt.Sprintf("%d, %d running", s.GetVms(), s.GetRunning())},
				{"socket", s.GetSocket()}, {"state", s.GetStateDir()}, {"log", s.GetLog()},
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// daemonStatus returns nil if no daemon runs.
func daemonStatus(ctx context.Context) (*bangerv1.StatusResponse, error) {
	c, err := client.ConnectIfRunning(ctx)
	if c == nil || err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Host.Status(ctx, &bangerv1.StatusRequest{})
}

func (a *app) daemonStopCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "Stop the daemon; VMs keep running",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := client.ConnectIfRunning(cmd.Context())
			if err != nil {
				return err
			}
			if c == nil {
				_, err := fmt.Fprintln(a.out, "no daemon runs")
				return err
			}
			defer c.Close()
			return a.stopDaemon(cmd.Context(), c)
		},
	}
}

// stopDaemon ends the daemon and waits until its process is gone.
func (a *app) stopDaemon(ctx context.Context, c *client.Client) error {
	s, err := c.Host.Status(ctx, &bangerv1.StatusRequest{})
	if err != nil {
		return err
	}
	// Opened while it answers, the descriptor cannot mean a later process of the
	// same number (pidfd_open(2)).
	process, err := unix.PidfdOpen(int(s.GetPid()), 0)
	if err != nil {
		return fmt.Errorf("cannot watch the daemon, process %d: %w", s.GetPid(), err)
	}
	defer unix.Close(process)
	if _, err := c.Host.Shutdown(ctx, &bangerv1.ShutdownRequest{}); err != nil {
		return err
	}
	c.Close() // the daemon would wait a second for a connection that is kept
	if err := awaitEnd(ctx, process, daemonEnd); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "the daemon has stopped; %d VMs keep running\n", s.GetRunning())
	return err
}

// awaitEnd waits until the process behind a pidfd has ended.
func awaitEnd(ctx context.Context, pidfd int, bound time.Duration) error {
	for end := time.Now().Add(bound); time.Now().Before(end); {
		// A short poll, since ctx cannot interrupt it.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 100)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("cannot watch the daemon: %w", err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
	return errs.New(errs.Timeout, "the daemon has not ended after %s", bound)
}
