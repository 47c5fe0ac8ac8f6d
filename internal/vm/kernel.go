package vm

import "time"

// Kernel is the record of a kernel on disk.
type Kernel struct {
	// Name is how users refer to it; Debian's kernels are named by their release.
	Name string
	// Release is what uname -r prints in the guest.
	Release string
	// Version is the Debian package's version, or empty.
	Version string
	// Format is what the kernel came as: "bzImage" or "ELF".
	Format string
	// Digest is "sha256:" and the hexadecimal digest of the ELF; ImageDigest is that
	// of the file in which the kernel came, ModulesDigest the modules disk's.
	Digest, ImageDigest, ModulesDigest string
	// Path is the ELF; ModulesDisk the read-only ext4 of /lib/modules/<release>;
	// ModulesDir holds the uncompressed modules that an initramfs may need, and
	// modules.builtin.
	Path, ModulesDisk, ModulesDir string
	// Modules counts the modules on the modules disk.
	Modules int
	Bytes   int64
	// Source says in one line where it came from.
	Source    string
	CreatedAt time.Time
	Origin    Origin
	// Options are what it was checked for.
	Options []KernelOption
}

// The kinds of an Origin.
const (
	OriginDebian = "debian"
	OriginURL    = "url"
	OriginFile   = "file"
	OriginHost   = "host"
)

// Origin says where a kernel came from, and how that was checked. Fields that do not
// apply are zero.
type Origin struct {
	Kind string
	// URL is where the kernel's file, or Debian's package, was fetched; FileDigest
	// is what it had to have.
	URL        string `json:",omitempty"`
	FileDigest string `json:",omitempty"`
	// ModulesURL is where its modules were fetched, if apart.
	ModulesURL string `json:",omitempty"`
	// ModulesFileDigest is what that file had to have.
	ModulesFileDigest string `json:",omitempty"`
	// Package is listed in Suite, whose index is of IndexDate and is signed by the
	// key with the fingerprint Key.
	Package   string    `json:",omitempty"`
	Suite     string    `json:",omitempty"`
	IndexDate time.Time `json:",omitzero"`
	Key       string    `json:",omitempty"`
}

// The states of a KernelOption.
const (
	OptionBuiltin = "built in"
	OptionModule  = "module"
	OptionMissing = "missing"
	// OptionUnknown is for what no source tells: there was no configuration.
	OptionUnknown = "unknown"
)

// KernelOption is one thing that a kernel was checked for.
type KernelOption struct {
	// Name is the configuration option, with "CONFIG_".
	Name string
	// Module provides it where it is not built in; empty if none can.
	Module string `json:",omitempty"`
	State  string
	// Reason says what needs it.
	Reason string
	// Required says that a kernel without it is refused.
	Required bool `json:",omitempty"`
}
