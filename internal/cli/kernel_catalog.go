package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/base/errs"
	"banger/internal/cli/client"
	"banger/internal/cli/term"
)

// candidateJSON is a kernel of the catalog in --json output.
type candidateJSON struct {
	Release    string `json:"release"`
	Package    string `json:"package"`
	Version    string `json:"version"`
	Suite      string `json:"suite"`
	Mirror     string `json:"mirror"`
	FetchBytes int64  `json:"fetch_bytes"`
	Default    bool   `json:"default"`
	Here       string `json:"here"`
}

func (a *app) kernelCatalogCommand() *cobra.Command {
	req := &bangerv1.KernelCatalogRequest{}
	var asJSON bool
	c := &cobra.Command{
		Use: "catalog", Short: "List the kernels that can be pulled, and from where",
		Long: `List Debian's kernels for virtual machines, as the mirror in the host's apt configuration
has them (or the one in ~/.config/banger/debian.sources). "banger kernel pull RELEASE"
fetches one; without a release it fetches the default.`,
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				s, err := c.Kernels.Catalog(cmd.Context(), req)
				if err != nil {
					return err
				}
				defer s.Close()
				list, err := a.followCatalog(s.Receive)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, convert(list.GetKernels(), func(k *bangerv1.KernelCandidate) candidateJSON {
						return candidateJSON{
							Release: k.GetRelease(), Package: k.GetPackage(), Version: k.GetVersion(), Suite: k.GetSuite(), Mirror: k.GetMirror(),
							FetchBytes: k.GetFetchBytes(), Default: k.GetDefault(), Here: k.GetHere(),
						}
					}))
				}
				_, _ = fmt.Fprintf(a.err, "mirrors: %s\n", term.CleanLine(list.GetSources()))
				return writeTable(a.out, []string{"RELEASE", "VERSION", "FETCH", "DEFAULT", "HERE", "SOURCE"}, convert(list.GetKernels(), func(k *bangerv1.KernelCandidate) []string {
					return []string{
						k.GetRelease(), k.GetVersion(), bytesText(k.GetFetchBytes()), yes(k.GetDefault()), yes(k.GetHere() != ""), k.GetMirror() + " " + k.GetSuite(),
					}
				}))
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&req.All, "all", false, "also kernels that are not made for virtual machines")
	f.BoolVar(&req.AllowOlder, "allow-older", false, "take an index of Debian's that is older than one seen before")
	return c
}

// followCatalog shows the progress of the question and returns the answer.
func (a *app) followCatalog(receive func() (*bangerv1.KernelCatalogEvent, error)) (*bangerv1.KernelCatalog, error) {
	painter := term.NewPainter(a.err)
	defer painter.Clear()
	for {
		event, err := receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil, errs.New(errs.Internal, "the daemon ended the operation without a result")
		case err != nil:
			return nil, err
		}
		if list := event.GetCatalog(); list != nil {
			return list, nil
		}
		painter.Report("", progressOf(event.GetProgress()))
	}
}
