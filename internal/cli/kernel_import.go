package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
)

// kernelFiles are the files of a kernel that is to be imported.
type kernelFiles struct {
	// image is a path, or "-".
	image string
	// config and modules may be empty; modules is a folder or a tar.
	config, modules string
}

func (a *app) kernelImportCommand() *cobra.Command {
	var files kernelFiles
	header := &bangerv1.KernelImportRequest{}
	c := &cobra.Command{
		Use: "import [flags] PATH|-", Short: "Make a kernel of files, or of the host's own",
		Long: `Make a kernel of a file: an ELF with a PVH entry (vmlinux) or a bzImage (vmlinuz) for
x86-64. What is not built in needs its modules. Every kernel is checked for what a guest
needs: by the configuration that it carries (CONFIG_IKCONFIG), by --config, by a
config-… beside the file, or by its modules.

With --host it is the kernel that this host runs, as far as you may read it.`,
		Example: `  banger kernel import vmlinux --name mine
  banger kernel import arch/x86/boot/bzImage --name mine --config .config --modules /tmp/root
  banger kernel import --host`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			if header.GetHost() == (len(argv) > 0) {
				return usage(cmd.CommandPath(), "give either the kernel's file or --host")
			}
			if header.GetHost() {
				if files.config != "" || files.modules != "" {
					return usage(cmd.CommandPath(), "--host finds --config and --modules by itself")
				}
				host, err := findHostKernel("/")
				if err != nil {
					return err
				}
				files = host.kernelFiles
				if header.Name == "" {
					header.Name = host.release
				}
				header.Source = "this host: " + files.image
			} else {
				if header.Name == "" {
					return usage(cmd.CommandPath(), "the kernel needs a name: --name is missing")
				}
				files.image = argv[0]
				header.Source = "standard input"
				if files.image != "-" {
					header.Source = filepath.Base(files.image)
					files.findConfig()
				}
			}
			return a.importKernel(cmd.Context(), header, files)
		},
	}
	f := c.Flags()
	f.StringVar(&header.Name, "name", "", "name of the new kernel; with --host, its release")
	f.StringVar(&files.modules, "modules", "", "folder with its modules (/lib/modules/RELEASE), or a tar of it")
	f.StringVar(&files.config, "config", "", "file with its configuration")
	f.BoolVar(&header.Host, "host", false, "import the kernel that this host runs")
	_ = c.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions)
	return c
}

// findConfig takes the config-X beside a vmlinuz-X.
func (k *kernelFiles) findConfig() {
	_, release, ok := strings.Cut(filepath.Base(k.image), "-")
	if beside := filepath.Join(filepath.Dir(k.image), "config-"+release); ok && k.config == "" && isImageFile(beside) {
		k.config = beside
	}
}

// importKernel opens all files before the daemon is asked, and sends them.
func (a *app) importKernel(ctx context.Context, header *bangerv1.KernelImportRequest, files kernelFiles) error {
	var parts []kernelPart
	defer func() {
		for _, p := range parts {
			p.close()
		}
	}()
	image := kernelPart{kind: bangerv1.KernelImportRequest_PART_KERNEL, r: a.in, close: func() {}}
	if files.image == "-" {
		if term.IsTerminal(a.in) {
			return errs.New(errs.Invalid, "cannot read a kernel from a terminal").WithHint("banger kernel import PATH --name NAME")
		}
	} else {
		f, err := openInput(files.image, "the kernel")
		if err != nil {
			return err
		}
		image.r, image.close = f, func() { _ = f.Close() }
	}
	parts = append(parts, image)
	if files.config != "" {
		text, err := readConfig(files.config)
		if err != nil {
			return err
		}
		parts = append(parts, kernelPart{kind: bangerv1.KernelImportRequest_PART_CONFIG, r: strings.NewReader(string(text)), close: func() {}})
	}
	if files.modules != "" {
		r, err := openModules(files.modules)
		if err != nil {
			return err
		}
		parts = append(parts, kernelPart{kind: bangerv1.KernelImportRequest_PART_MODULES, r: r, close: func() { _ = r.Close() }})
	}
	return withDaemon(ctx, func(c *client.Client) error {
		return upload(ctx, c.Kernels.Import, header,
			func(s bangerv1connect.KernelServiceImportClientStream) error { return sendParts(s, parts) },
			func(s bangerv1connect.KernelServiceImportClientStream) error { return a.followKernel(s.Receive) })
	})
}

// kernelPart is one file of a kernel, as bytes.
type kernelPart struct {
	kind  bangerv1.KernelImportRequest_Part
	r     io.Reader
	close func()
}

// sendParts sends all parts to their ends. The stream's own failures are the
// receiver's to report.
func sendParts(s bangerv1connect.KernelServiceImportClientStream, parts []kernelPart) error {
	buf := make([]byte, importChunk)
	for _, p := range parts {
		for {
			n, err := io.ReadFull(p.r, buf)
			if n > 0 && s.Send(&bangerv1.KernelImportRequest{Part: p.kind, Data: buf[:n]}) != nil {
				return nil
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("cannot read the kernel's files: %w", err)
			}
		}
	}
	_ = s.CloseSend()
	return nil
}

// openModules opens a tar of modules, or makes one of a folder.
func openModules(path string) (io.ReadCloser, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errs.New(errs.NotFound, "cannot open the kernel's modules: %w", err)
	case err != nil:
		return nil, errs.New(errs.Invalid, "cannot open the kernel's modules: %w", err)
	case !info.IsDir():
		return openInput(path, "the kernel's modules")
	}
	// Walking ends at the first folder that cannot be read: better now than halfway.
	if _, err := os.ReadDir(path); err != nil {
		return nil, errs.New(errs.Invalid, "cannot open the kernel's modules: %w", err)
	}
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(tarModules(w, path)) }()
	return r, nil
}
