package dockerfile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/dockerfile"
	"banger/internal/vm"
)

func TestApply(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  vm.ImageConfig
	}{
		"exec form":        {[]string{`ENTRYPOINT ["/app", "-x"]`, `CMD [ "a b" , "" ]`}, vm.ImageConfig{Entrypoint: []string{"/app", "-x"}, Cmd: []string{"a b", ""}}},
		"shell form":       {[]string{`cmd echo  "$HOME" && x`}, vm.ImageConfig{Cmd: []string{"/bin/sh", "-c", `echo  "$HOME" && x`}}},
		"shell's brackets": {[]string{`CMD [ -f /x ] && exec y`, `ENTRYPOINT [ -f x ]`}, vm.ImageConfig{Cmd: []string{"/bin/sh", "-c", "[ -f /x ] && exec y"}, Entrypoint: []string{"/bin/sh", "-c", "[ -f x ]"}}},
		"nothing runs":     {[]string{`CMD ["x"]`, `CMD []`}, vm.ImageConfig{Cmd: []string{}}},
		"the last counts":  {[]string{`CMD ["x"]`, `CMD ["y"]`, `USER a`, `USER 1000:1000`}, vm.ImageConfig{Cmd: []string{"y"}, User: "1000:1000"}},
		"variables": {
			[]string{`ENV A=1 B="two words" C=three\ words D='$A "x"'`, `ENV A=2 E=$A`, `ENV F ${A} and $B "quoted"`, `ENV PATH=/app/bin:$PATH`},
			vm.ImageConfig{Env: []string{"A=2", "B=two words", "C=three words", `D=$A "x"`, "E=1", "F=2 and two words quoted", "PATH=/app/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
		},
		"operators": {
			[]string{`ENV A=a N= `, `ENV P=${A:-x}${N:-y}${N-z}${U-$A} Q=${A:+x}${N:+y}${N+z}${U+w} R=\$A"\$\"\\\x"$ S=${U:-"b c"}`},
			vm.ImageConfig{Env: []string{"A=a", "N=", "P=aya", "Q=xz", `R=$A$"\\x$`, "S=b c"}},
		},
		"folders":    {[]string{`WORKDIR /a`, `WORKDIR b c/../d`, `VOLUME /v $U/w`, `VOLUME ["/v", "/x y"]`}, vm.ImageConfig{WorkingDir: "/a/d", Volumes: []string{"/v", "/w", "/x y"}}},
		"ports":      {[]string{`EXPOSE 80 53/UDP 80/tcp`, `EXPOSE 8000-8002`}, vm.ImageConfig{ExposedPorts: []string{"80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"}}},
		"labels":     {[]string{`LABEL a=1 "b c"="d e"`, `LABEL a=2`}, vm.ImageConfig{Labels: map[string]string{"a": "2", "b c": "d e"}}},
		"stopsignal": {[]string{`STOPSIGNAL SIGRTMIN+3`}, vm.ImageConfig{StopSignal: "SIGRTMIN+3"}},
		"spaces":     {[]string{"  env\tA=1 \\\n  B=2\n"}, vm.ImageConfig{Env: []string{"A=1", "B=2"}}},
	} {
		var got vm.ImageConfig
		for _, line := range c.lines {
			if err := dockerfile.Apply(&got, line); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if d := cmp.Diff(got, c.want); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestBadInstructionsChangeNothing(t *testing.T) {
	before := vm.ImageConfig{Env: []string{"A=1"}, Labels: map[string]string{"l": "1"}, ExposedPorts: []string{"1/tcp"}, Volumes: []string{"/v"}, Cmd: []string{"c"}}
	got := before
	for line, text := range map[string]string{
		"":                                     `unknown instruction ""`,
		"RUN make":                             `unknown instruction "RUN"`,
		"FROM x":                               "ENTRYPOINT, ENV",
		"CMD":                                  "no command",
		"CMD ['a']":                            "double quotes",
		`ENTRYPOINT ["a", 1]`:                  "not a list of strings",
		"ENV":                                  "sets nothing",
		"ENV A":                                `"A" has no value`,
		"ENV A=1 B":                            `"B" is not KEY=VALUE`,
		"ENV =1":                               "has no name",
		`ENV A="1`:                             "no end",
		"ENV A='1":                             "no end",
		"ENV A=${A":                            "${A",
		"ENV A=${":                             "not followed by NAME",
		"ENV A=${A:":                           "may follow",
		"ENV A=${A%x}":                         "may follow",
		"ENV A=${A:-x":                         "missing",
		"ENV A=" + strings.Repeat("${U:-", 99): "words within words",
		"ENV A=\x00":                           "NUL",
		"LABEL a":                              "no value",
		"EXPOSE 0":                             "not a port",
		"EXPOSE 65536":                         "not a port",
		"EXPOSE 9-8":                           "not a port",
		"EXPOSE 80/icmp":                       "not a port",
		"EXPOSE 1-65535 1-65535/udp":           "bytes",
		"STOPSIGNAL SIGNONE":                   "SIGNONE",
		"STOPSIGNAL":                           "is missing",
		"USER a b":                             "2 words",
		`USER ""`:                              "is missing",
		"WORKDIR":                              "no folder",
		"VOLUME []":                            "no folder",
		`VOLUME [""]`:                          "no folder",
	} {
		err := dockerfile.Apply(&got, line)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error()+errs.HintOf(err), text) {
			t.Errorf("Apply(%.40q): %v (%s); want a refusal with %q", line, err, errs.HintOf(err), text)
		}
		if d := cmp.Diff(got, before); d != "" {
			t.Errorf("Apply(%.40q) changed: %s", line, d)
		}
	}
}

func TestVariablesDoNotMultiply(t *testing.T) {
	c := vm.ImageConfig{Env: []string{"A=" + strings.Repeat("x", vm.MaxImageConfig/2)}}
	if err := dockerfile.Apply(&c, "WORKDIR "+strings.Repeat("$A", 100_000)); errs.KindOf(err) != errs.Invalid {
		t.Errorf("%v, want a refusal", err)
	}
}

func FuzzApply(f *testing.F) {
	for _, s := range []string{
		`ENV A=1 B="$A ${C:-x}" D='y' E=\ z`, "ENV A b c", `CMD ["a", "b"]`, "CMD a b", "EXPOSE 80 90-99/udp", `VOLUME ["/a"]`, "WORKDIR ../x", "USER $A", `LABEL "a"=b`, "STOPSIGNAL 9", "ENV A=${", `ENV A="\`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		before := vm.ImageConfig{Env: []string{"A=1", "C="}, WorkingDir: "/w"}
		c := before
		if err := dockerfile.Apply(&c, line); err != nil {
			if errs.KindOf(err) != errs.Invalid {
				t.Errorf("%v has the kind %v", err, errs.KindOf(err))
			}
			if d := cmp.Diff(c, before); d != "" {
				t.Errorf("changed after %v: %s", err, d)
			}
			return
		}
		if err := c.Check(); err != nil {
			t.Errorf("%q made a configuration that is refused: %v", line, err)
		}
		if len(c.Environ(nil)) != len(c.Env) {
			t.Errorf("%q made the environment %q", line, c.Env)
		}
	})
}
