package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/config"
	"banger/internal/debian"
	"banger/internal/fetch"
	"banger/internal/imagecatalog"
	"banger/internal/oci/registry"
)

// configJSON is the configuration in --json output.
type configJSON struct {
	// Path is that of the file, which need not exist.
	Path   string         `json:"path"`
	Values []config.Value `json:"values"`
	// Catalog is the user's part of the image catalog; null if there is no such file.
	Catalog *string `json:"image_catalog"`
	// Mirrors are those of Debian, and MirrorsFrom the file or folder that names them.
	Mirrors     []string `json:"debian_mirrors"`
	MirrorsFrom string   `json:"debian_mirrors_from"`
}

func (a *app) configCommand() *cobra.Command {
	c := group("config", "The user's configuration", `The configuration is a file in TOML, and may be missing: then everything has its
default. A running daemon takes up changes by itself.

  banger config show           what holds, and from where
  $EDITOR $(banger config path)
  banger config check          what is wrong with it`)
	c.AddCommand(a.configShowCommand(), a.configPathCommand(), a.configCheckCommand())
	return c
}

func (a *app) configPathCommand() *cobra.Command {
	return &cobra.Command{
		Use: "path", Short: "Print where the configuration is",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			dirs, err := paths.FromEnv()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.out, dirs.ConfigFile())
			return err
		},
	}
}

func (a *app) configShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show", Short: "Print what holds, and from where",
		Args: args(cobra.NoArgs), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			dirs, err := paths.FromEnv()
			if err != nil {
				return err
			}
			shown, err := effectiveConfig(dirs)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(a.out, shown)
			}
			return writeTable(a.out, []string{"KEY", "VALUE", "FROM"}, shown.rows())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func effectiveConfig(dirs paths.Dirs) (configJSON, error) {
	c, err := config.Read(dirs.ConfigFile())
	if err != nil {
		return configJSON{}, err
	}
	shown := configJSON{Path: dirs.ConfigFile(), Values: c.Values(), Mirrors: []string{}}
	if _, err := os.Stat(dirs.ImageCatalog()); err == nil {
		file := dirs.ImageCatalog()
		shown.Catalog = &file
	}
	sources, from, err := debian.Sources(dirs.DebianSources(), "/")
	if err != nil {
		return configJSON{}, err
	}
	for _, s := range sources {
		shown.Mirrors = append(shown.Mirrors, fetch.Redacted(s.URI)+" "+strings.Join(s.Suites, " "))
	}
	shown.MirrorsFrom = from
	return shown, nil
}

func (c configJSON) rows() (rows [][]string) {
	for _, v := range c.Values {
		text := fmt.Sprint(v.Value)
		if list, ok := v.Value.([]string); ok {
			text = strings.Join(list, " ")
		}
		rows = append(rows, []string{v.Key, text, v.From})
	}
	if c.Catalog != nil {
		rows = append(rows, []string{"image catalog", "banger's own, and more", *c.Catalog})
	}
	for _, m := range c.Mirrors {
		rows = append(rows, []string{"Debian mirror", m, c.MirrorsFrom})
	}
	return rows
}

func (a *app) configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check [FILE]", Short: "Tell what is wrong with the configuration",
		Long: `Read the configuration, the user's image catalog and the user's list of Debian
mirrors, those of them that there are, and tell what is wrong. A FILE is read as one of
them, by its name: config.toml, images.toml or debian.sources.`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				return a.checkConfig(args[0], true)
			}
			dirs, err := paths.FromEnv()
			if err != nil {
				return err
			}
			var failures manyErrors
			for _, file := range []string{dirs.ConfigFile(), dirs.ImageCatalog(), dirs.DebianSources()} {
				if err := a.checkConfig(file, false); err != nil {
					failures = append(failures, err)
				}
			}
			if failures != nil {
				return failures
			}
			return nil
		},
	}
}

// checkConfig reads one file as what its name says. One that is not there is an error if
// it must be.
func (a *app) checkConfig(file string, must bool) error {
	_, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !must:
		_, err := fmt.Fprintf(a.out, "%s: there is none\n", file)
		return err
	case errors.Is(err, fs.ErrNotExist):
		return errs.New(errs.NotFound, "there is no file %q", file)
	}
	switch filepath.Base(file) {
	case "images.toml":
		_, err = imagecatalog.Read(file)
	case "debian.sources":
		_, _, err = debian.Sources(file, "/")
	default:
		err = checkConfigFile(file)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.out, "%s: good\n", file)
	return err
}

// checkConfigFile also reads what the file names.
func checkConfigFile(file string) error {
	c, err := config.Read(file)
	if err != nil {
		return err
	}
	client, err := registry.New(c.RegistryOptions())
	if err != nil {
		return errs.New(errs.KindOf(err), "%s: %w", file, err)
	}
	return client.Close()
}
