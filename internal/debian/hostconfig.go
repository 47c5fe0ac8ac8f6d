package debian

import (
	"context"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
)

// HostConfig is what apt's configuration says of reaching mirrors.
type HostConfig struct {
	// HTTPProxy and HTTPSProxy are proxies as in Acquire::http::Proxy, "DIRECT"
	// for none; empty means those of the environment.
	HTTPProxy, HTTPSProxy string
	// IgnoreExpiry is set when Acquire::Check-Valid-Until is false.
	IgnoreExpiry bool
}

// ReadHostConfig asks apt-config. A host without it has the zero configuration.
func ReadHostConfig(ctx context.Context) HostConfig {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output()
	if err != nil {
		return HostConfig{}
	}
	return parseHostConfig(string(out))
}

// parseHostConfig reads lines of the form `Name "value";`.
func parseHostConfig(dump string) HostConfig {
	var h HostConfig
	for line := range strings.Lines(dump) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.Trim(value, `";`)
		switch strings.ToLower(name) {
		case "acquire::http::proxy":
			h.HTTPProxy = value
		case "acquire::https::proxy":
			h.HTTPSProxy = value
		case "acquire::check-valid-until":
			h.IgnoreExpiry = isNo(value)
		}
	}
	return h
}

// proxy chooses the proxy of a request, as [http.Transport] wants it.
func (h HostConfig) proxy(req *http.Request) (*url.URL, error) {
	p := h.HTTPProxy
	if req.URL.Scheme == "https" && h.HTTPSProxy != "" {
		p = h.HTTPSProxy
	}
	switch p {
	case "":
		return http.ProxyFromEnvironment(req)
	case "DIRECT", "false":
		return nil, nil //nolint:nilnil // no proxy and no error, says net/http
	}
	return url.Parse(p)
}
