package statedb_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/daemon/statedb"
	"banger/internal/vm"
)

func open(t *testing.T, path string) *statedb.DB {
	t.Helper()
	db, err := statedb.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func sample(id vm.ID, name vm.Name) vm.VM {
	return vm.VM{
		ID:    id,
		Spec:  vm.Spec{Name: name, Image: "img", VCPUs: 2, Memory: vm.GiB, System: 8 * vm.GiB, Work: 9 * vm.GiB, RemoveOnStop: true},
		State: vm.Creating, CreatedAt: time.Unix(5, 6),
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRecordsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?#% name.db")
	db := open(t, path)
	v := sample("a1", "one")
	op := vm.Operation{VM: "a1", Action: "create", Step: "row"}
	must(t, db.InsertVM(t.Context(), v, op))
	img := vm.Image{
		Name: "img", Digest: "sha256:d", Path: "/p", Bytes: 3, Source: "s", CreatedAt: time.Unix(7, 8),
		Config:    &vm.ImageConfig{Env: []string{"A='1'"}, Cmd: []string{"x", ""}, Labels: map[string]string{"l": "1"}},
		Origin:    &vm.ImageOrigin{Reference: "r", Manifest: "sha256:m", Layers: []vm.ImageLayer{{Digest: "sha256:l", Size: 4}}},
		Documents: &vm.ImageDocuments{Manifest: []byte("m"), Config: []byte{0, 255}},
	}
	k := vm.Kernel{
		Name: "6.12", Release: "6.12.1", Version: "6.12-1", Format: "ELF", Digest: "sha256:e", ImageDigest: "sha256:f", ModulesDigest: "sha256:g",
		Path: "/k", ModulesDisk: "/m", ModulesDir: "/d", Modules: 3, Bytes: 4, Source: "t", CreatedAt: time.Unix(9, 1),
		Origin:  vm.Origin{Kind: vm.OriginDebian, Suite: "s", IndexDate: time.Unix(11, 0).UTC()},
		Options: []vm.KernelOption{{Name: "CONFIG_X", State: vm.OptionModule, Module: "x", Reason: "why"}},
	}
	must(t, db.PutImage(t.Context(), img))
	must(t, db.PutKernel(t.Context(), k))
	must(t, db.BindVM(t.Context(), "a1", "sha256:d", "6.12", img.Config.ForVM()))
	v.State, v.StartedAt, v.Boot = vm.Running, time.Unix(10, 2), vm.Boot{Kernel: "6.1", VCPUs: 2, Memory: vm.GiB}
	must(t, db.SetState(t.Context(), v))
	next := vm.Boot{Kernel: "6.12", VCPUs: 7, Memory: 2 * vm.GiB}
	must(t, db.SetBoot(t.Context(), "a1", next))
	must(t, db.PutIndexDate(t.Context(), "suite", time.Unix(12, 0)))
	must(t, db.Close())

	db = open(t, path)
	v.Spec.ImageDigest, v.Spec.Kernel, v.Spec.VCPUs, v.Spec.Memory = "sha256:d", next.Kernel, next.VCPUs, next.Memory
	v.Spec.Config = img.Config.ForVM()
	vms, err := db.VMs(t.Context())
	must(t, err)
	images, err := db.Images(t.Context())
	must(t, err)
	kernels, err := db.Kernels(t.Context())
	must(t, err)
	ops, err := db.Operations(t.Context())
	must(t, err)
	docs, err := db.ImageDocuments(t.Context(), "img")
	must(t, err)
	if d := cmp.Diff(docs, img.Documents); d != "" {
		t.Error(d)
	}
	img.Documents = nil
	if d := cmp.Diff([]any{vms, images, kernels, ops}, []any{[]vm.VM{v}, []vm.Image{img}, []vm.Kernel{k}, []vm.Operation{op}}); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestOlderDatabasesAreBroughtUpToDate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	first, err := os.ReadFile("migrations/001_first.sql")
	must(t, err)
	raw, err := sql.Open("sqlite", path)
	must(t, err)
	_, err = raw.Exec(string(first) + `PRAGMA user_version=1;
		INSERT INTO images VALUES ('img', 'sha256:d', '/p', 3, 's', 7);
		INSERT INTO vms VALUES ('a1', 'one', 'img', 'sha256:d', '6.12', 2, 1, 2, 3, 0, 'stopped', 'killed', 5, 0);`)
	must(t, errors.Join(err, raw.Close()))
	for range 2 { // once is enough
		db := open(t, path)
		images, err := db.Images(t.Context())
		must(t, err)
		vms, err := db.VMs(t.Context())
		must(t, err)
		if len(images) != 1 || images[0].Name != "img" || images[0].Config != nil || len(vms) != 1 || vms[0].Reason != "killed" || vms[0].Spec.Config != nil {
			t.Errorf("images %+v, VMs %+v", images, vms)
		}
		must(t, db.Close())
	}
}

func TestNamesAreUniqueAndImagesInUseStay(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "db"))
	must(t, db.InsertVM(t.Context(), sample("a1", "one"), vm.Operation{VM: "a1"}))
	err := db.InsertVM(t.Context(), sample("a2", "one"), vm.Operation{VM: "a2"})
	if errs.KindOf(err) != errs.Exists {
		t.Errorf("a second VM of one name: %v", err)
	}
	if err := db.BindVM(t.Context(), "a1", "sha256:d", "6.12", nil); errs.KindOf(err) != errs.Conflict {
		t.Errorf("bound to an image that is not there: %v", err)
	}
	must(t, db.PutImage(t.Context(), vm.Image{Name: "x", Digest: "sha256:d"}))
	must(t, db.PutImage(t.Context(), vm.Image{Name: "y", Digest: "sha256:d"}))
	must(t, db.PutKernel(t.Context(), vm.Kernel{Name: "6.12"}))
	must(t, db.BindVM(t.Context(), "a1", "sha256:d", "6.12", nil))
	if last, err := db.DeleteImage(t.Context(), "x"); last || err != nil {
		t.Errorf("one of two names: last %v, %v", last, err)
	}
	if _, err := db.DeleteImage(t.Context(), "y"); errs.KindOf(err) != errs.Conflict {
		t.Errorf("the last name of a disk in use: %v", err)
	}
	must(t, db.DeleteVM(t.Context(), "a1"))
	if last, err := db.DeleteImage(t.Context(), "y"); !last || err != nil {
		t.Errorf("the last name: last %v, %v", last, err)
	}
	if _, err := db.DeleteImage(t.Context(), "y"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a name that is gone: %v", err)
	}
	if ops, err := db.Operations(t.Context()); len(ops) != 0 || err != nil {
		t.Errorf("a deleted VM left operations: %v, %v", ops, err)
	}
}

func TestBadDatabasesAreRefusedUnchanged(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	must(t, os.WriteFile(garbage, make([]byte, 8192), 0o600))
	must(t, os.WriteFile(garbage, append([]byte("not a database"), make([]byte, 8192)...), 0o600))
	newer := filepath.Join(dir, "newer")
	must(t, open(t, newer).Close())
	raw, err := sql.Open("sqlite", newer)
	must(t, err)
	_, err = raw.Exec("PRAGMA user_version=99")
	must(t, errors.Join(err, raw.Close()))
	for _, path := range []string{garbage, newer} {
		before, err := os.ReadFile(path)
		must(t, err)
		_, err = statedb.Open(t.Context(), path)
		if errs.KindOf(err) != errs.Unavailable || errs.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q", path, err, errs.HintOf(err))
		}
		if after, _ := os.ReadFile(path); string(after) != string(before) {
			t.Errorf("%s was changed", path)
		}
	}
}
