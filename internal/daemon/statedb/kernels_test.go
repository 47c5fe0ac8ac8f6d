package statedb_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

func TestKernelsInUseStay(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	for _, name := range []string{"old", "new"} {
		must(t, db.PutKernel(t.Context(), vm.Kernel{Name: name}))
	}
	must(t, db.PutImage(t.Context(), vm.Image{Name: "img", Digest: "sha256:d"}))
	v := sample("a1", "one")
	must(t, db.InsertVM(t.Context(), v, vm.Operation{VM: "a1"}))
	must(t, db.BindVM(t.Context(), "a1", "sha256:d", "old", nil))
	v.State, v.Boot = vm.Running, vm.Boot{Kernel: "old"}
	must(t, db.SetState(t.Context(), v))
	must(t, db.SetBoot(t.Context(), "a1", vm.Boot{Kernel: "new", VCPUs: 1, Memory: vm.GiB}))
	// It runs the one and is to boot the other.
	for _, name := range []string{"old", "new"} {
		if err := db.DeleteKernel(t.Context(), name); errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), `"one"`) {
			t.Errorf("delete %q: %v", name, err)
		}
	}
	v.State, v.Boot = vm.Stopped, vm.Boot{}
	must(t, db.SetState(t.Context(), v))
	must(t, db.DeleteKernel(t.Context(), "old"))
	if err := db.DeleteKernel(t.Context(), "old"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a kernel that is gone: %v", err)
	}
	if err := db.SetBoot(t.Context(), "a1", vm.Boot{Kernel: "old"}); errs.KindOf(err) != errs.Conflict {
		t.Errorf("set to a kernel that is gone: %v", err)
	}
}

func TestIndexDates(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	if date, err := db.IndexDate(t.Context(), "a"); err != nil || !date.IsZero() {
		t.Errorf("of a suite never seen: %v, %v", date, err)
	}
	for _, seconds := range []int64{1000, 2000, 500} { // what to take is not for the records to say
		must(t, db.PutIndexDate(t.Context(), "a", time.Unix(seconds, 7)))
		if date, err := db.IndexDate(t.Context(), "a"); err != nil || !date.Equal(time.Unix(seconds, 0)) {
			t.Errorf("put %d: %v, %v", seconds, date, err)
		}
	}
}

// TestKernelsOfTheFirstSchemaAreKept makes the tables of schema 1 again.
func TestKernelsOfTheFirstSchemaAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	first, err := os.ReadFile("migrations/001_first.sql")
	must(t, err)
	raw, err := sql.Open("sqlite", path)
	must(t, err)
	for _, text := range []string{
		string(first), "PRAGMA user_version=1",
		"INSERT INTO kernels VALUES ('6.12.1-cloud-amd64', '6.12.1-1', 'sha256:e', '/k', '/m', '/d', 4, 't', 9)",
		"INSERT INTO vms VALUES ('a1', 'up', 'img', 'sha256:d', '6.12.1-cloud-amd64', 2, 1073741824, 1, 1, 0, 'running', '', 5, 6)",
		"INSERT INTO vms VALUES ('a2', 'down', 'img', 'sha256:d', '6.12.1-cloud-amd64', 2, 1073741824, 1, 1, 0, 'stopped', '', 7, 0)",
	} {
		_, err := raw.Exec(text)
		must(t, err)
	}
	must(t, raw.Close())
	db := open(t, path)
	kernels, err := db.Kernels(t.Context())
	must(t, err)
	if len(kernels) != 1 || kernels[0].Name != "6.12.1-cloud-amd64" || kernels[0].Release != kernels[0].Name || kernels[0].Origin.Kind != vm.OriginDebian ||
		kernels[0].Origin.Package != "linux-image-6.12.1-cloud-amd64" || kernels[0].Digest != "sha256:e" || kernels[0].ModulesDir != "/d" {
		t.Errorf("kernels %+v", kernels)
	}
	vms, err := db.VMs(t.Context())
	must(t, err)
	if len(vms) != 2 || vms[0].Boot != (vm.Boot{Kernel: "6.12.1-cloud-amd64", VCPUs: 2, Memory: vm.GiB}) || vms[1].Boot != (vm.Boot{}) {
		t.Errorf("VMs %+v", vms)
	}
	if err := errors.Join(db.DeleteVM(t.Context(), "a1"), db.DeleteVM(t.Context(), "a2"), db.DeleteKernel(t.Context(), "6.12.1-cloud-amd64")); err != nil {
		t.Error(err)
	}
}
