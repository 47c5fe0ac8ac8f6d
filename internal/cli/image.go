package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
)

// importChunk is the tar's part in one message, in bytes; the API allows 1 MiB.
const importChunk = 512 << 10

// imageJSON is an image in --json output.
type imageJSON struct {
	Name      string     `json:"name"`
	Digest    string     `json:"digest"`
	DiskPath  string     `json:"disk_path"`
	DiskBytes int64      `json:"disk_bytes"`
	CreatedAt *time.Time `json:"created_at"`
	Source    string     `json:"source"`
	InUse     int32      `json:"in_use"`
}

func newImageJSON(i *bangerv1.Image) imageJSON {
	return imageJSON{
		Name: i.GetName(), Digest: i.GetDigest(), DiskPath: i.GetDiskPath(), DiskBytes: i.GetDiskBytes(),
		CreatedAt: timeOf(i.GetCreatedAt()), Source: i.GetSource(), InUse: i.GetInUse(),
	}
}

func (a *app) imageCommand() *cobra.Command {
	c := group("image", "Manage images", "")
	c.AddCommand(a.imageListCommand(), a.imageShowCommand(), a.imageDeleteCommand(), a.imageImportCommand(), a.imageBuildCommand())
	return c
}

func (a *app) imageListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List images on disk and those that can be built",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				r, err := c.Images.List(cmd.Context(), &bangerv1.ImageListRequest{})
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, convert(r.GetImages(), newImageJSON))
				}
				now := time.Now()
				return writeTable(a.out, []string{"NAME", "DIGEST", "SIZE", "AGE", "VMS", "SOURCE"}, convert(r.GetImages(), func(i *bangerv1.Image) []string {
					digest := shortDigest(i.GetDigest())
					if digest == "" {
						digest = "not built"
					}
					return []string{i.GetName(), digest, bytesText(i.GetDiskBytes()), ago(i.GetCreatedAt(), now), strconv.Itoa(int(i.GetInUse())), i.GetSource()}
				}))
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) imageShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show [flags] IMAGE", Short: "Show everything about an image",
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				r, err := c.Images.Get(cmd.Context(), &bangerv1.ImageGetRequest{Image: args[0]})
				if err != nil {
					return err
				}
				i := r.GetImage()
				if asJSON {
					return writeJSON(a.out, []imageJSON{newImageJSON(i)})
				}
				return writeFields(a.out, [][2]string{
					{"name", i.GetName()}, {"digest", i.GetDigest()}, {"disk", i.GetDiskPath()}, {"size", bytesText(i.GetDiskBytes())},
					{"created", timeText(i.GetCreatedAt())}, {"source", i.GetSource()}, {"VMs", strconv.Itoa(int(i.GetInUse()))},
				})
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) imageDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete IMAGE…", Aliases: []string{"rm"}, Short: "Delete images that no VM uses",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				failures := make([]error, len(args))
				for i, name := range args {
					_, failures[i] = c.Images.Delete(cmd.Context(), &bangerv1.ImageDeleteRequest{Image: name})
				}
				return a.outcome(args, failures)
			})
		},
	}
}

func (a *app) imageBuildCommand() *cobra.Command {
	return &cobra.Command{
		Use: "build [IMAGE]", Short: "Build an image now, as its first use would",
		Args: args(cobra.MaximumNArgs(1)), ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &bangerv1.ImageBuildRequest{}
			if len(args) > 0 {
				req.Image = args[0]
			}
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				s, err := c.Images.Build(cmd.Context(), req)
				if err != nil {
					return err
				}
				defer s.Close()
				return a.followImage(s.Receive)
			})
		},
	}
}

func (a *app) imageImportCommand() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "import PATH|- --name NAME", Short: "Make an image of a root file system's tar",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				return usage(cmd.CommandPath(), "the image needs a name: --name is missing")
			}
			in, source, closeIn, err := a.openTar(args[0])
			if err != nil {
				return err
			}
			defer closeIn()
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				return a.importTar(cmd.Context(), c, &bangerv1.ImageImportRequest{Name: name, Source: source}, in)
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "name of the new image")
	return c
}

// openTar opens the tar at path, or standard input for "-".
func (a *app) openTar(path string) (in io.Reader, source string, closeIn func(), err error) {
	if path == "-" {
		if term.IsTerminal(a.in) {
			return nil, "", nil, errs.New(errs.Invalid, "cannot read a tar from a terminal").WithHint("banger image import PATH --name NAME")
		}
		return a.in, "standard input", func() {}, nil
	}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, "", nil, errs.New(errs.NotFound, "cannot open the tar: %w", err)
	case err != nil:
		return nil, "", nil, errs.New(errs.Invalid, "cannot open the tar: %w", err)
	}
	return f, filepath.Base(path), func() { _ = f.Close() }, nil
}

// importTar sends the header, then the tar, and shows what becomes of it.
func (a *app) importTar(ctx context.Context, c *client.Client, header *bangerv1.ImageImportRequest, in io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := c.Images.Import(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Send(header); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	// Not waited for: standard input's read cannot be interrupted. It ends with it,
	// and a cancelled stream takes nothing more.
	go func() {
		if err := sendTar(s, in); err != nil {
			cancel(err)
		}
	}()
	err = a.followImage(s.Receive)
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	return err
}

// sendTar sends in to its end. The stream's own failures are the receiver's to
// report.
func sendTar(s bangerv1connect.ImageServiceImportClientStream, in io.Reader) error {
	buf := make([]byte, importChunk)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && s.Send(&bangerv1.ImageImportRequest{Data: buf[:n]}) != nil {
			return nil
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_ = s.CloseSend()
			return nil
		case err != nil:
			return fmt.Errorf("cannot read the tar: %w", err)
		}
	}
}

// followImage shows an image's making and prints its name.
func (a *app) followImage(receive func() (*bangerv1.ImageEvent, error)) error {
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
		if image := event.GetImage(); image != nil {
			painter.Clear()
			_, err := fmt.Fprintln(a.out, image.GetName())
			return err
		}
		painter.Report("", progressOf(event.GetProgress()))
	}
}
