package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"banger/internal/base/version"
	"banger/internal/cli/term"
	"banger/internal/doctor"
)

// checkJSON is a check in --json output.
type checkJSON struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix"`
}

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "doctor", Short: "Tell what this host lacks, and how to get it",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := doctor.Run(cmd.Context())
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if err := a.writeChecks(checks, asJSON); err != nil {
				return err
			}
			for _, check := range checks {
				if check.Status == doctor.Fail {
					return statusError(exitUnavailable)
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) writeChecks(checks []doctor.Check, asJSON bool) error {
	if asJSON {
		return writeJSON(a.out, convert(checks, func(c doctor.Check) checkJSON {
			return checkJSON{Name: c.Name, Status: string(c.Status), Detail: c.Detail, Fix: c.Fix}
		}))
	}
	colours := map[doctor.Status]string{doctor.OK: "\x1b[32m", doctor.Warn: "\x1b[33m", doctor.Fail: "\x1b[31m"}
	colour := term.IsTerminal(a.out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	for _, c := range checks {
		status := fmt.Sprintf("%-4s", c.Status)
		if colour {
			status = colours[c.Status] + status + "\x1b[0m"
		}
		if _, err := fmt.Fprintf(a.out, "%s  %-16s  %s\n", status, c.Name, term.CleanLine(c.Detail)); err != nil {
			return err
		}
		if c.Fix != "" {
			if _, err := fmt.Fprintf(a.out, "%24s%s\n", "fix: ", c.Fix); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Print the version",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return writeJSON(a.out, map[string]string{"version": version.String()})
			}
			_, err := fmt.Fprintln(a.out, "banger", version.String())
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
