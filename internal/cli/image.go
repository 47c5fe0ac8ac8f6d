package cli

import (
	"archive/tar"
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
	"banger/internal/vm"
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
	// Config is left out in lists, and for images that have none.
	Config *vm.ImageConfig `json:"config,omitempty"`
	// Origin is left out in lists, and for images that were not OCI images.
	Origin *originJSON `json:"origin,omitempty"`
}

// originJSON is the OCI image that an image was made of, in --json output.
type originJSON struct {
	Reference      string      `json:"reference"`
	ManifestDigest string      `json:"manifest_digest"`
	IndexDigest    string      `json:"index_digest"`
	ConfigDigest   string      `json:"config_digest"`
	MediaType      string      `json:"media_type"`
	Platform       string      `json:"platform"`
	Layers         []layerJSON `json:"layers"`
}

// layerJSON is a layer of an OCI image in --json output.
type layerJSON struct {
	Digest    string `json:"digest"`
	Bytes     int64  `json:"bytes"`
	MediaType string `json:"media_type"`
	DiffID    string `json:"diff_id"`
}

func newLayerJSON(l *bangerv1.ImageLayer) layerJSON {
	return layerJSON{Digest: l.GetDigest(), Bytes: l.GetBytes(), MediaType: l.GetMediaType(), DiffID: l.GetDiffId()}
}

func newOriginJSON(o *bangerv1.ImageOrigin) *originJSON {
	if o == nil {
		return nil
	}
	return &originJSON{
		Reference: o.GetReference(), ManifestDigest: o.GetManifestDigest(), IndexDigest: o.GetIndexDigest(), ConfigDigest: o.GetConfigDigest(),
		MediaType: o.GetMediaType(), Platform: o.GetPlatform(), Layers: convert(o.GetLayers(), newLayerJSON),
	}
}

func originFields(o *bangerv1.ImageOrigin) [][2]string {
	if o == nil {
		return nil
	}
	var bytes int64
	for _, l := range o.GetLayers() {
		bytes += l.GetBytes()
	}
	return [][2]string{
		{"reference", o.GetReference()}, {"manifest", o.GetManifestDigest()}, {"index", o.GetIndexDigest()}, {"config", o.GetConfigDigest()},
		{"platform", o.GetPlatform()}, {"layers", fmt.Sprintf("%d, %s", len(o.GetLayers()), bytesText(bytes))},
	}
}

func newImageJSON(i *bangerv1.Image) imageJSON {
	return imageJSON{
		Name: i.GetName(), Digest: i.GetDigest(), DiskPath: i.GetDiskPath(), DiskBytes: i.GetDiskBytes(),
		CreatedAt: timeOf(i.GetCreatedAt()), Source: i.GetSource(), InUse: i.GetInUse(),
		Config: fromConfig(i.GetConfig()), Origin: newOriginJSON(i.GetOrigin()),
	}
}

func (a *app) imageCommand() *cobra.Command {
	c := group("image", "Manage images", `An image is a read-only disk that VMs share; what a VM changes is on disks of its own. The
first use of one makes it: of the catalog ("banger image list" shows what that has), else
of an image that a registry has, so "--image alpine" and "--image ghcr.io/org/app:2" work.`)
	c.AddCommand(a.imageListCommand(), a.imageShowCommand(), a.imageHistoryCommand(), a.imagePullCommand(), a.imageImportCommand(), a.imageExportCommand(),
		a.imageBuildCommand(), a.imageTagCommand(), a.imageDeleteCommand(), a.imagePruneCommand())
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
				return writeFields(a.out, append([][2]string{
					{"name", i.GetName()}, {"digest", i.GetDigest()}, {"disk", i.GetDiskPath()}, {"size", bytesText(i.GetDiskBytes())},
					{"created", timeText(i.GetCreatedAt())}, {"source", i.GetSource()}, {"VMs", strconv.Itoa(int(i.GetInUse()))},
				}, append(originFields(i.GetOrigin()), configFields(i.GetConfig())...)...))
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

func (a *app) imageImportCommand() *cobra.Command {
	req := &bangerv1.ImageImportRequest{}
	var changes []string
	c := &cobra.Command{
		Use: "import [flags] PATH|-", Short: "Make an image of a file: an image archive, or a root file system's tar",
		Long: `Make an image of a file: what "docker save" or "podman save" writes, an OCI image layout
(a folder, or a tar of it), or the tar of a root file system. It may be compressed with
gzip, zstd or xz. An image archive has a name for its image, which --name replaces; a
root file system needs one.

For a root file system, --change gives a configuration, by an instruction of a
Dockerfile each time: ENV, WORKDIR, USER, ENTRYPOINT, CMD, EXPOSE, VOLUME, STOPSIGNAL or
LABEL. They are what "vm run" and "vm exec" begin with.`,
		Example: `  docker save mine:latest | banger image import -
  banger image import layout/ --name mine
  docker export "$container" | banger image import - --name mine
  banger image import app.tar --name app -c 'ENTRYPOINT ["/app"]' -c 'ENV PORT=80'`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Config, err = changedConfig(changes); err != nil {
				return err
			}
			in, source, closeIn, err := a.openTar(args[0])
			if err != nil {
				return err
			}
			defer closeIn()
			req.Source = source
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				return upload(cmd.Context(), c.Images.Import, req,
					func(s bangerv1connect.ImageServiceImportClientStream) error { return sendTar(s, in) },
					func(s bangerv1connect.ImageServiceImportClientStream) error { return a.followImage(s.Receive) })
			})
		},
	}
	c.Flags().StringVar(&req.Name, "name", "", "name of the new image")
	c.Flags().StringVar(&req.Image, "image", "", "which image of an archive with several: a name or digest")
	c.Flags().StringVar(&req.Platform, "platform", "", "platform of an archive's image, such as linux/arm64 (default: this machine's)")
	c.Flags().StringArrayVarP(&changes, "change", "c", nil, "Dockerfile instruction for the new image, such as 'CMD [\"/app\"]'")
	return c
}

// openTar opens the tar at path, or standard input for "-". A folder is read as the tar
// of an OCI image layout.
func (a *app) openTar(path string) (in io.Reader, source string, closeIn func(), err error) {
	if path == "-" {
		if term.IsTerminal(a.in) {
			return nil, "", nil, errs.New(errs.Invalid, "cannot read a tar from a terminal").WithHint("banger image import PATH --name NAME")
		}
		return a.in, "standard input", func() {}, nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		in, closeIn, err := openLayout(path)
		return in, filepath.Base(path), closeIn, err
	}
	f, err := openInput(path, "the tar")
	if err != nil {
		return nil, "", nil, err
	}
	return f, filepath.Base(path), func() { _ = f.Close() }, nil
}

// openLayout reads the folder of an OCI image layout as a tar.
func openLayout(path string) (io.Reader, func(), error) {
	if _, err := os.Stat(filepath.Join(path, "oci-layout")); err != nil {
		return nil, nil, errs.New(errs.Invalid, "the folder %q is no OCI image layout: %w", path, err).
			WithHint("tar -C %s -c . | banger image import - --name NAME", shellWord(path))
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, nil, err
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := tar.NewWriter(pw)
		err := t.AddFS(root.FS())
		_ = pw.CloseWithError(errors.Join(err, t.Close())) // always nil
	}()
	return pr, func() {
		_ = pr.Close()
		<-done
		_ = root.Close()
	}, nil
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
