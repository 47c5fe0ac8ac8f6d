package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/atomicfile"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
)

func (a *app) imageExportCommand() *cobra.Command {
	var output string
	var flat, root bool
	c := &cobra.Command{
		Use: "export [flags] IMAGE", Short: "Write an image as an OCI layout, or as a tar of its files",
		Long: `Write an image as an OCI image layout in a tar, which "docker load", "podman load" and
"banger image import" take: to the standard output, to a file, or into a folder whose
name ends in "/". The layers are those that the image was made of; they are fetched
again if they are no longer here. An image that was made of packages gets one layer.`,
		Example: `  banger image export alpine:3.20 | docker load
  banger image export mine -o mine.tar
  banger image export mine -o layout/
  banger image export --root mine > rootfs.tar`,
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &bangerv1.ImageExportRequest{Image: args[0]}
			folder := strings.HasSuffix(output, "/")
			switch {
			case flat && root:
				return usage(cmd.CommandPath(), "--flat and --root are two forms: choose one")
			case root && folder:
				return usage(cmd.CommandPath(), "a tar of files goes into a file, not into the folder %q", output)
			case flat:
				req.Form = bangerv1.ImageExportRequest_FORM_FLAT
			case root:
				req.Form = bangerv1.ImageExportRequest_FORM_ROOT
			}
			if output == "" || output == "-" {
				if term.IsTerminal(a.out) {
					return errs.New(errs.Invalid, "cannot write a tar to a terminal").WithHint("%s %s -o FILE.tar", cmd.CommandPath(), shellWord(args[0]))
				}
				return a.exportImage(cmd, req, a.out)
			}
			if folder {
				return a.exportLayout(cmd, req, output)
			}
			return atomicfile.WriteFrom(output, 0o644, func(w io.Writer) error { return a.exportImage(cmd, req, w) })
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "file, or folder with a / at the end (default: standard output)")
	c.Flags().BoolVar(&flat, "flat", false, "one layer with all files, in place of the image's own")
	c.Flags().BoolVar(&root, "root", false, "a tar of the root file system, and no OCI layout")
	return c
}

// exportImage writes what the daemon sends to w.
func (a *app) exportImage(cmd *cobra.Command, req *bangerv1.ImageExportRequest, w io.Writer) error {
	painter := term.NewPainter(a.err)
	defer painter.Clear()
	return withDaemon(cmd.Context(), func(c *client.Client) error {
		s, err := c.Images.Export(cmd.Context(), req)
		if err != nil {
			return err
		}
		defer s.Close()
		for {
			event, err := s.Receive()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if p := event.GetProgress(); p != nil {
				painter.Report("", progressOf(p))
				continue
			}
			if _, err := w.Write(event.GetData()); err != nil {
				return fmt.Errorf("cannot write the image: %w", err)
			}
		}
	})
}

// exportLayout makes a folder of the tar that the daemon sends. After a failure there
// is none.
func (a *app) exportLayout(cmd *cobra.Command, req *bangerv1.ImageExportRequest, path string) (err error) {
	if err := os.Mkdir(path, 0o755); err != nil {
		return errs.New(errs.Invalid, "cannot make the folder %q: %w", path, err).WithHint("name a folder that does not exist yet")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}()
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	pr, pw := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := unpackLayout(root, pr)
		_ = pr.CloseWithError(err) // always nil
		unpacked <- err
	}()
	err = a.exportImage(cmd, req, pw)
	_ = pw.CloseWithError(err) // always nil
	if unpackErr := <-unpacked; unpackErr != nil && err == nil {
		err = unpackErr
	}
	return err
}

func unpackLayout(root *os.Root, r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // so that who writes it comes to the end
			return err
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			if err := root.Mkdir(strings.TrimSuffix(h.Name, "/"), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			continue
		}
		f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, t) //nolint:gosec // the daemon's own
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
	}
}
