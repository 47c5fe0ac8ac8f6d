package cli

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
)

func (a *app) vmExecCommand() *cobra.Command {
	var tty ttyFlags
	var user, dir string
	var env []string
	c := &cobra.Command{
		Use: "exec [flags] VM [--] [command [argument…]]", Short: "Run a command in a running VM",
		Long: `Run a command in a running VM as root; without a command, a login shell. The
exit status is the command's (see "banger help exit-codes"). Standard input is
passed on when it is a pipe or a file, with a terminal, or with -i.`,
		Example: `  banger vm exec -it devbox
  banger vm exec -u guest -w /tmp -e GREETING=hello devbox -- sh -c 'echo $GREETING'`,
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeVMs(1, isRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			argv := args[1:]
			if len(argv) > 0 && argv[0] == "--" {
				argv = argv[1:]
			}
			start, err := newExecStart(argv)
			if err != nil {
				return err
			}
			start.User, start.Dir = user, dir
			for _, kv := range env {
				pair, err := envPair(kv)
				if err != nil {
					return err
				}
				start.Env = append(start.Env, []byte(pair))
			}
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				v, err := getRunningVM(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				s := session{app: a, daemon: c, vm: v, start: start}
				if tty.wanted(a, len(argv) == 0) {
					s.setTTY()
				}
				s.stdin = tty.interactive || start.GetTty() != nil || carriesInput(a.in)
				start.Stdin = s.stdin
				return s.run(cmd.Context())
			})
		},
	}
	f := c.Flags()
	f.SetInterspersed(false) // what follows the VM is the command's
	tty.register(f)
	f.StringVarP(&user, "user", "u", "", "user to run as: a name or number, optionally with :group")
	f.StringVarP(&dir, "workdir", "w", "", "working directory; the user's home without it")
	f.StringArrayVarP(&env, "env", "e", nil, "environment variable KEY=VALUE; KEY alone takes our own value")
	return c
}

// envPair completes KEY to KEY=VALUE from our own environment.
func envPair(s string) (string, error) {
	key, _, whole := strings.Cut(s, "=")
	if key == "" {
		return "", errs.New(errs.Invalid, "cannot read the variable %q", s).WithHint("write it as KEY=VALUE")
	}
	if whole {
		return s, nil
	}
	value, ok := os.LookupEnv(key)
	if !ok {
		return "", errs.New(errs.Invalid, "the variable %q is not set here", key).WithHint("write it as %s=VALUE", key)
	}
	return key + "=" + value, nil
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
