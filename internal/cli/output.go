package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/cli/term"
	"banger/internal/vm"
)

// vmJSON is a VM in --json output. Names and meanings are stable; fields may be
// added.
type vmJSON struct {
	ID            string     `json:"id"`
	Name          string     `json:"name"`
	State         string     `json:"state"`
	Reason        string     `json:"reason"`
	Image         string     `json:"image"`
	ImageDigest   string     `json:"image_digest"`
	Kernel        string     `json:"kernel"`
	VCPUs         int32      `json:"vcpus"`
	MemoryBytes   int64      `json:"memory_bytes"`
	DiskBytes     int64      `json:"disk_bytes"`
	DiskUsedBytes int64      `json:"disk_used_bytes"`
	CreatedAt     *time.Time `json:"created_at"`
	StartedAt     *time.Time `json:"started_at"`
	VMM           string     `json:"vmm"`
	Accelerator   string     `json:"accelerator"`
	PID           int32      `json:"pid"`
	ShimPID       int32      `json:"shim_pid"`
	BootID        string     `json:"boot_id"`
	Init          string     `json:"init"`
	ShimSocket    string     `json:"shim_socket"`
	GuestSocket   string     `json:"guest_socket"`
	ConsoleLog    string     `json:"console_log"`
	RemoveOnStop  bool       `json:"remove_on_stop"`
	// Boot is what a VM that runs was started with; null while it is stopped.
	Boot *bootJSON `json:"boot"`
	// Config is left out in lists, and for images that have none.
	Config *vm.ImageConfig `json:"config,omitempty"`
}

// bootJSON is what a VM was started with: it differs from the VM's own fields after a
// "vm set" that waits for the next start.
type bootJSON struct {
	Kernel      string `json:"kernel"`
	VCPUs       int32  `json:"vcpus"`
	MemoryBytes int64  `json:"memory_bytes"`
}

func newBootJSON(b *bangerv1.VMBoot) *bootJSON {
	if b == nil {
		return nil
	}
	return &bootJSON{Kernel: b.GetKernel(), VCPUs: b.GetVcpus(), MemoryBytes: b.GetMemoryBytes()}
}

func newVMJSON(v *bangerv1.VM) vmJSON {
	return vmJSON{
		ID: v.GetId(), Name: v.GetName(), State: stateWord(v.GetState()), Reason: v.GetReason(),
		Image: v.GetImage(), ImageDigest: v.GetImageDigest(), Kernel: v.GetKernel(),
		VCPUs: v.GetVcpus(), MemoryBytes: v.GetMemoryBytes(), DiskBytes: v.GetDiskBytes(), DiskUsedBytes: v.GetDiskUsedBytes(),
		CreatedAt: timeOf(v.GetCreatedAt()), StartedAt: timeOf(v.GetStartedAt()),
		VMM: v.GetVmm(), Accelerator: v.GetAccelerator(), PID: v.GetPid(), ShimPID: v.GetShimPid(),
		BootID: v.GetBootId(), Init: v.GetInit(),
		ShimSocket: v.GetShimSocket(), GuestSocket: v.GetGuestSocket(), ConsoleLog: v.GetConsoleLog(),
		RemoveOnStop: v.GetRemoveOnStop(), Boot: newBootJSON(v.GetBoot()), Config: fromConfig(v.GetConfig()),
	}
}

// stateWord is the state as users see it: "running".
func stateWord(s bangerv1.State) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "STATE_"))
}

func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// convert maps every element of a list to its JSON form; an empty list is [].
func convert[From, To any](list []From, one func(From) To) []To {
	out := make([]To, 0, len(list))
	for _, v := range list {
		out = append(out, one(v))
	}
	return out
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeTable writes rows under a head, in columns.
func writeTable(w io.Writer, head []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		if err := writeRow(t, row); err != nil {
			return err
		}
	}
	return t.Flush()
}

// writeFields writes "key:  value" lines; empty values are left out.
func writeFields(w io.Writer, fields [][2]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		if f[1] == "" {
			continue
		}
		if err := writeRow(t, []string{f[0] + ":", f[1]}); err != nil {
			return err
		}
	}
	return t.Flush()
}

// writeRow writes one row of clean cells; a dash stands for an empty one.
func writeRow(w io.Writer, cells []string) error {
	clean := convert(cells, func(s string) string { return cmp.Or(term.CleanLine(s), "-") })
	_, err := fmt.Fprintln(w, strings.Join(clean, "\t"))
	return err
}

// bytesText is an amount for people; nothing is "".
func bytesText(n int64) string {
	if n <= 0 {
		return ""
	}
	return vm.Size(n).Approx()
}

// ago is how long since t, for people, in its largest unit: "3h".
func ago(t *timestamppb.Timestamp, now time.Time) string {
	if t == nil {
		return ""
	}
	d := max(now.Sub(t.AsTime()), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// shortDigest is enough of a digest to tell images apart.
func shortDigest(d string) string {
	if hex, ok := strings.CutPrefix(d, "sha256:"); ok && len(hex) > 12 {
		return hex[:12]
	}
	return d
}

// timeText is a moment for people.
func timeText(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05")
}
