package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/client"
)

func (a *app) imageTagCommand() *cobra.Command {
	return &cobra.Command{
		Use: "tag IMAGE NAME", Short: "Give an image one more name",
		Long: "Give an image one more name. What had the name before loses it.",
		Args: args(cobra.ExactArgs(2)), ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				_, err := c.Images.Tag(cmd.Context(), &bangerv1.ImageTagRequest{Image: args[0], Name: args[1]})
				return err
			})
		},
	}
}

// stepJSON is a step of an image's history in --json output.
type stepJSON struct {
	CreatedAt *time.Time `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	Comment   string     `json:"comment,omitempty"`
	// Layer is left out for a step that changed no file.
	Layer *layerJSON `json:"layer,omitempty"`
}

func newStepJSON(s *bangerv1.ImageStep) stepJSON {
	j := stepJSON{CreatedAt: timeOf(s.GetCreatedAt()), CreatedBy: s.GetCreatedBy(), Comment: s.GetComment()}
	if l := s.GetLayer(); l != nil {
		layer := newLayerJSON(l)
		j.Layer = &layer
	}
	return j
}

func (a *app) imageHistoryCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "history [flags] IMAGE", Short: "Show how an image came to be, the last step first",
		Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withDaemon(cmd.Context(), func(c *client.Client) error {
				r, err := c.Images.History(cmd.Context(), &bangerv1.ImageHistoryRequest{Image: args[0]})
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.out, convert(r.GetSteps(), newStepJSON))
				}
				now := time.Now()
				return writeTable(a.out, []string{"LAYER", "SIZE", "AGE", "BY"}, convert(r.GetSteps(), func(s *bangerv1.ImageStep) []string {
					size := ""
					if s.GetLayer() != nil {
						size = bytesText(s.GetLayer().GetBytes())
					}
					by := strings.Join(strings.Fields(s.GetCreatedBy()), " ")
					if by == "" {
						by = s.GetComment()
					}
					return []string{shortDigest(s.GetLayer().GetDigest()), size, ago(s.GetCreatedAt(), now), by}
				}))
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
