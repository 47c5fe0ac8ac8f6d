package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"

	shimv1 "banger/api/shim/v1"
	"banger/api/shim/v1/shimv1connect"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
	"banger/internal/guestabi"
)

// detachKey is Ctrl-], as in telnet(1).
const detachKey = 0x1d

func (a *app) vmConsoleCommand() *cobra.Command {
	return &cobra.Command{
		Use: "console VM", Short: "Attach to a VM's serial console",
		Long: `Attach to a VM's serial console, recent output first. Ctrl-] detaches.`,
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeVMs(1, isRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				v, err := getVM(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				// A VM that still boots has no agent, but it has a console.
				if v.GetShimSocket() == "" {
					return errs.New(errs.Conflict, "the VM %q is %s", v.GetName(), stateWord(v.GetState())).WithHint("banger vm start %s", v.GetName())
				}
				shim, closeShim := client.Shim(v.GetShimSocket())
				defer closeShim()
				return a.console(cmd.Context(), shim)
			})
		},
	}
}

func (a *app) console(ctx context.Context, shim shimv1connect.ShimServiceClient) error {
	if term.IsTerminal(a.in) {
		_, _ = fmt.Fprintln(a.err, "attached to the console; Ctrl-] detaches")
		restore, err := term.Raw(a.in.(*os.File)) //nolint:forcetypeassert // IsTerminal has looked
		if err != nil {
			return fmt.Errorf("cannot put the terminal into raw mode: %w", err)
		}
		a.setRestore(restore)
		defer restore()
	}
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	stream, err := shim.Console(ctx)
	if err != nil {
		cancel(nil)
		return err
	}
	defer stream.Close()
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel(nil)
	if err := stream.SendHeaders(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	sender.Go(func() { sendKeys(ctx, cancel, a.in, stream.Send) })
	for {
		r, err := stream.Receive()
		switch {
		case err == nil:
			if _, err := a.out.Write(r.GetData()); err != nil {
				return err
			}
		case parent.Err() != nil:
			return parent.Err()
		case errors.Is(err, io.EOF), errors.Is(context.Cause(ctx), errDetached):
			return nil
		default:
			return err
		}
	}
}

var errDetached = errors.New("detached")

// sendKeys passes in on up to the detach key, which ends ctx. The end of in ends
// nothing: a console without a keyboard is still worth watching.
func sendKeys(ctx context.Context, cancel context.CancelCauseFunc, in io.Reader, send func(*shimv1.ConsoleRequest) error) {
	keys := make(chan []byte)
	go func() { // not waited for: nothing can interrupt the read
		for {
			buf := make([]byte, guestabi.MaxChunk/2)
			n, err := in.Read(buf)
			if n > 0 && !put(ctx, keys, buf[:n]) || err != nil {
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case data := <-keys:
			data, _, detach := bytes.Cut(data, []byte{detachKey})
			if len(data) > 0 && send(&shimv1.ConsoleRequest{Data: data}) != nil {
				return
			}
			if detach {
				cancel(errDetached)
				return
			}
		}
	}
}
