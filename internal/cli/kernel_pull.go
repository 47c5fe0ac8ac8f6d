package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
	"banger/internal/kconfig"
)

func (a *app) kernelPullCommand() *cobra.Command {
	req := &bangerv1.KernelPullRequest{}
	var config string
	c := &cobra.Command{
		Use: "pull [flags] [KERNEL]", Short: "Fetch a kernel of Debian's, or one by URL and digest",
		Long: `Fetch a kernel. KERNEL is one of Debian's: a series such as 6.12, a release, or a package;
without it, the newest of the preferred series. It comes from the mirror in the host's
apt configuration (or in ~/.config/banger/debian.sources), and is checked down from the
signature of Debian's archive. What is here already is not fetched again.

With --url it is any kernel for x86-64, an ELF with a PVH entry or a bzImage; its digest
says that it is the right one. Every kernel is checked for what a guest needs before it
can be used.

VMs keep the kernel that they have; new ones take the newest of Debian's.`,
		Example: `  banger kernel pull
  banger kernel pull 6.1
  banger kernel pull --name mine --url https://example.com/vmlinux --digest sha256:… \
      --modules https://example.com/modules.tar.zst --modules-digest sha256:…`,
		Args: args(cobra.MaximumNArgs(1)), ValidArgsFunction: cobra.FixedCompletions([]string{"6.12", "6.1"}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if len(argv) > 0 {
				req.Kernel = argv[0]
			}
			if err := checkPull(cmd, req, config); err != nil {
				return err
			}
			if config != "" {
				text, err := readConfig(config)
				if err != nil {
					return err
				}
				req.Config = text
			}
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				s, err := c.Kernels.Pull(cmd.Context(), req)
				if err != nil {
					return err
				}
				defer s.Close()
				return a.followKernel(s.Receive)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&req.Url, "url", "", "where a kernel is: https, http or file")
	f.StringVar(&req.Digest, "digest", "", "what that file must have: sha256: and 64 digits")
	f.StringVar(&req.Name, "name", "", "name of the kernel at the URL")
	f.StringVar(&req.ModulesUrl, "modules", "", "where a tar of its modules is")
	f.StringVar(&req.ModulesDigest, "modules-digest", "", "what that tar must have")
	f.StringVar(&config, "config", "", "file with its configuration, if it carries none")
	f.BoolVar(&req.AllowOlder, "allow-older", false, "take an index of Debian's that is older than one seen before")
	for _, flag := range []string{"url", "digest", "name", "modules", "modules-digest"} {
		_ = c.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	return c
}

// checkPull refuses flags that do not go together.
func checkPull(cmd *cobra.Command, req *bangerv1.KernelPullRequest, config string) error {
	path := cmd.CommandPath()
	switch {
	case req.GetUrl() != "" && req.GetKernel() != "":
		return usage(path, "a kernel of Debian's (%q) goes not with --url", req.GetKernel())
	case req.GetUrl() != "" && req.GetAllowOlder():
		return usage(path, "--allow-older is for kernels of Debian's")
	case req.GetUrl() != "" && req.GetName() == "":
		return usage(path, "the kernel at the URL needs a name: --name is missing")
	case req.GetUrl() == "" && (req.GetDigest() != "" || req.GetName() != "" || req.GetModulesUrl() != "" || req.GetModulesDigest() != "" || config != ""):
		return usage(path, "--digest, --name, --modules, --modules-digest and --config go with --url, which is missing")
	}
	return nil
}

// readConfig reads a file with a kernel's configuration.
func readConfig(path string) ([]byte, error) {
	f, err := openInput(path, "the kernel's configuration")
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, kconfig.MaxText+1))
	if err != nil {
		return nil, errs.New(errs.Invalid, "cannot read the kernel's configuration: %w", err)
	}
	if _, err := kconfig.Parse(text); err != nil {
		return nil, errs.New(errs.Invalid, "cannot read the kernel's configuration in %q: %w", path, err).WithHint("give a file such as /boot/config-…")
	}
	return text, nil
}

// openInput opens a file that the user has named.
func openInput(path, what string) (*os.File, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errs.New(errs.NotFound, "cannot open %s: %w", what, err)
	case err != nil:
		return nil, errs.New(errs.Invalid, "cannot open %s: %w", what, err)
	}
	return f, nil
}

// followKernel shows a kernel's making, prints its name, and says what is new.
func (a *app) followKernel(receive func() (*bangerv1.KernelEvent, error)) error {
	painter := term.NewPainter(a.err)
	defer painter.Clear()
	for {
		event, err := receive()
		switch {
		case errors.Is(err, io.EOF):
			return errs.New(errs.Internal, "the daemon ended the operation without a result")
		case err != nil:
			return err
		}
		k := event.GetKernel()
		if k == nil {
			painter.Report("", progressOf(event.GetProgress()))
			continue
		}
		painter.Clear()
		switch {
		case event.GetAlready():
			_, _ = fmt.Fprintf(a.err, "%s is here already\n", k.GetName())
		case k.GetDefault() && event.GetBefore() != "":
			_, _ = fmt.Fprintf(a.err, "%s is new: VMs made from now on get it; others keep theirs (%s) until: banger vm set VM --kernel %s\n",
				k.GetName(), event.GetBefore(), k.GetName())
		}
		_, err = fmt.Fprintln(a.out, k.GetName())
		return err
	}
}
