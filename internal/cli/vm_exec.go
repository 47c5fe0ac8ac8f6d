package cli

import (
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"banger/internal/cli/client"
	"banger/internal/cli/term"
)

func (a *app) vmExecCommand() *cobra.Command {
	var tty ttyFlags
	var process processFlags
	var detach bool
	c := &cobra.Command{
		Use: "exec [flags] VM [--] [command [argument…]]", Short: "Run a command in a running VM",
		Long: `Run a command in a running VM; without a command, a shell. User, directory and
environment are those that the VM's image names, as far as no flag does; with an
image that names none it is a login shell, or a command, of root.

The exit status is the command's (see "banger help exit-codes"). Standard input is
passed on when it is a pipe or a file, with a terminal, or with -i. With -d the
command lives on by itself, and its output is in "banger vm logs".`,
		Example: `  banger vm exec -it devbox
  banger vm exec -u guest -w /tmp -e GREETING=hello devbox -- sh -c 'echo $GREETING'`,
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(1, isRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			argv := args[1:]
			if len(argv) > 0 && argv[0] == "--" {
				argv = argv[1:]
			}
			if detach && len(argv) == 0 {
				return usage(cmd.CommandPath(), "--detach needs a command")
			}
			req, err := process.request(argv)
			if err != nil {
				return err
			}
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				v, err := getRunningVM(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				s := session{app: a, daemon: c, vm: v, start: req.start(fromConfig(v.GetConfig()), argv)}
				if s.start.Detach = detach; !detach {
					if tty.wanted(a, len(argv) == 0) {
						s.setTTY()
					}
					s.stdin = tty.interactive || s.start.GetTty() != nil || carriesInput(a.in)
					s.start.Stdin = s.stdin
				}
				return s.run(cmd.Context())
			})
		},
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows the VM is the command's
	tty.register(f)
	process.register(f)
	f.BoolVarP(&detach, "detach", "d", false, "only start the command; its output goes to the VM's console log")
	return c
}

// carriesInput says whether in has something for a command that nobody asked to
// read: it is a pipe, a socket or a file, not a terminal and not /dev/null.
func carriesInput(in any) bool {
	f, ok := in.(*os.File)
	if !ok {
		return in != nil
	}
	var st unix.Stat_t
	if f == nil || unix.Fstat(int(f.Fd()), &st) != nil || term.IsTerminal(f) {
		return false
	}
	// The null device is 1:3 (Linux, Documentation/admin-guide/devices.txt).
	return st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3)
}
