package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"banger/ext4"
	"banger/internal/vm"
)

// volumeJSON is a file system in --json output.
type volumeJSON struct {
	Label         string     `json:"label"`
	UUID          string     `json:"uuid"`
	SizeBytes     uint64     `json:"size_bytes"`
	FreeBytes     uint64     `json:"free_bytes"`
	ReservedBytes uint64     `json:"reserved_bytes"`
	BlockSize     int        `json:"block_size"`
	Inodes        uint32     `json:"inodes"`
	FreeInodes    uint32     `json:"free_inodes"`
	JournalBytes  uint64     `json:"journal_bytes"`
	Clean         bool       `json:"clean"`
	Errors        bool       `json:"errors"`
	NeedsRecovery bool       `json:"needs_recovery"`
	Features      []string   `json:"features"`
	CreatedAt     *time.Time `json:"created_at"`
	MountedAt     *time.Time `json:"mounted_at"`
	WrittenAt     *time.Time `json:"written_at"`
	CheckedAt     *time.Time `json:"checked_at"`
}

func newVolumeJSON(s ext4.Stats) volumeJSON {
	bs := uint64(s.BlockSize)
	return volumeJSON{
		Label: s.Label, UUID: uuidText(s.UUID), SizeBytes: s.Blocks * bs, FreeBytes: s.FreeBlocks * bs, ReservedBytes: s.ReservedBlocks * bs, BlockSize: s.BlockSize,
		Inodes: s.Inodes, FreeInodes: s.FreeInodes, JournalBytes: s.JournalSize, Clean: s.Clean, Errors: s.Errors, NeedsRecovery: s.NeedsRecovery,
		Features: append([]string{}, s.Features...), CreatedAt: orNil(s.Created), MountedAt: orNil(s.Mounted), WrittenAt: orNil(s.Written), CheckedAt: orNil(s.Checked),
	}
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// uuidText is a UUID as RFC 9562 section 4 has it.
func uuidText(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func (a *app) diskStatCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "stat [flags] DISK [PATH…]", Short: "Show all about files, or about the file system itself",
		Args: args(cobra.MinimumNArgs(1)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, paths, err := diskPaths(args)
			if err != nil {
				return err
			}
			return readDisk(cmd, ref, func(im *ext4.Image) error {
				if len(paths) == 0 {
					return a.showVolume(im.Stats(), asJSON)
				}
				var all []fileJSON
				for _, p := range paths {
					f, err := statFile(im, cleanPath(p))
					if err != nil {
						return err
					}
					all = append(all, f)
				}
				if asJSON {
					return writeJSON(a.out, all)
				}
				for i, f := range all {
					if i > 0 {
						_, _ = fmt.Fprintln(a.out)
					}
					if err := a.showFile(f); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// statFile describes a file with its attributes; a link itself.
func statFile(im *ext4.Image, p string) (fileJSON, error) {
	info, err := im.Lstat(fsPath(p))
	if err != nil {
		return fileJSON{}, err
	}
	st := info.Sys().(*ext4.Stat)
	f := newFileJSON(p, st)
	f.Xattrs, err = st.Xattrs()
	return f, err
}

func (a *app) showVolume(s ext4.Stats, asJSON bool) error {
	v := newVolumeJSON(s)
	if asJSON {
		return writeJSON(a.out, v)
	}
	state := "clean"
	switch {
	case v.Errors:
		state = "with errors that the kernel found"
	case v.NeedsRecovery:
		state = "not unmounted: the journal will be replayed"
	case !v.Clean:
		state = "not unmounted"
	}
	return writeFields(a.out, [][2]string{
		{"label", v.Label}, {"uuid", v.UUID}, {"size", bytesText(int64(v.SizeBytes))}, {"free", vm.Size(v.FreeBytes).Approx()},
		{"inodes", fmt.Sprintf("%d, %d free", v.Inodes, v.FreeInodes)}, {"block size", strconv.Itoa(v.BlockSize)}, {"journal", bytesText(int64(v.JournalBytes))},
		{"state", state}, {"created", momentText(s.Created)}, {"mounted", momentText(s.Mounted)}, {"written", momentText(s.Written)},
		{"features", strings.Join(v.Features, " ")},
	})
}

func momentText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

const nanoTime = "2006-01-02 15:04:05.999999999 -0700"

func (a *app) showFile(f fileJSON) error {
	device := ""
	if strings.HasSuffix(f.Type, " device") {
		device = fmt.Sprintf("%d,%d", f.Major, f.Minor)
	}
	fields := [][2]string{
		{"path", f.Path}, {"type", f.Type}, {"target", f.Target}, {"device", device}, {"mode", f.Mode},
		{"uid", strconv.FormatUint(uint64(f.UID), 10)}, {"gid", strconv.FormatUint(uint64(f.GID), 10)},
		{"size", strconv.FormatInt(f.Size, 10)}, {"used", bytesText(int64(f.UsedBytes))}, {"links", strconv.Itoa(int(f.Links))},
		{"inode", strconv.FormatUint(uint64(f.Inode), 10)},
		{"modified", f.Mtime.Local().Format(nanoTime)}, {"accessed", f.Atime.Local().Format(nanoTime)}, {"changed", f.Ctime.Local().Format(nanoTime)},
	}
	for _, name := range slices.Sorted(maps.Keys(f.Xattrs)) {
		fields = append(fields, [2]string{"xattr " + name, strconv.Quote(string(f.Xattrs[name]))})
	}
	return writeFields(a.out, fields)
}
