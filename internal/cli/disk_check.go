package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"banger/ext4"
	"banger/internal/cli/term"
)

// exitDamaged is the status of "disk check" for a file system that is not sound.
const exitDamaged = 1

// diskCheckJSON is the result of a check in --json output.
type diskCheckJSON struct {
	Clean       bool          `json:"clean"`
	Problems    []problemJSON `json:"problems"`
	Omitted     int           `json:"omitted"`
	Notes       []string      `json:"notes"`
	Inodes      uint32        `json:"inodes"`
	Directories uint32        `json:"directories"`
	Blocks      uint64        `json:"blocks"`
}

// problemJSON is one thing that is wrong; the words of kind are stable.
type problemJSON struct {
	Kind   string `json:"kind"`
	Inode  uint32 `json:"inode,omitempty"`
	Block  uint64 `json:"block,omitempty"`
	Group  uint32 `json:"group,omitempty"`
	Path   string `json:"path,omitempty"`
	Detail string `json:"detail"`
}

func (a *app) diskCheckCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "check [flags] DISK", Short: "Look for damage",
		Long: `Look whether the file system contradicts itself, as "e2fsck -fn" does: maps, directories,
attributes, links, what is free, checksums, as they are once the journal is replayed.
Nothing is changed. The exit status is 0 if all is well and 1 if there is damage.`,
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeDisk,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ref, err := oneDisk(args[0])
			if err != nil {
				return err
			}
			d, err := openDisk(cmd, ref, false)
			if err != nil {
				return diskError(ref, err)
			}
			defer d.Close()
			report, err := ext4.Check(cmd.Context(), d, d.size)
			if err != nil {
				return diskError(ref, err)
			}
			if asJSON {
				err = writeJSON(a.out, newDiskCheck(report))
			} else {
				err = a.writeReport(ref, report)
			}
			if err == nil && !report.OK() {
				return statusError(exitDamaged)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func newDiskCheck(r *ext4.Report) diskCheckJSON {
	return diskCheckJSON{
		Clean: r.OK(), Omitted: r.Omitted, Notes: append([]string{}, r.Notes...), Inodes: r.Inodes, Directories: r.Directories, Blocks: r.Blocks,
		Problems: convert(r.Problems, func(p ext4.Problem) problemJSON {
			return problemJSON{string(p.Kind), p.Inode, p.Block, p.Group, p.Path, p.Detail}
		}),
	}
}

func (a *app) writeReport(ref diskRef, r *ext4.Report) error {
	if _, err := fmt.Fprint(a.out, term.CleanText(r.String())); err != nil {
		return err
	}
	verdict := "no damage"
	if n := len(r.Problems) + r.Omitted; n > 0 {
		verdict = fmt.Sprintf("%d problems; e2fsck -f can mend many, on a copy", n)
	}
	_, err := fmt.Fprintf(a.out, "%s: %s; %d inodes, %d directories and %d blocks in use\n", term.CleanLine(ref.String()), verdict, r.Inodes, r.Directories, r.Blocks)
	return err
}
