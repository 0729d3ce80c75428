package parity_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/meshtrace/meshtrace/internal/parity"
	"github.com/meshtrace/meshtrace/middleware"
)

// internalConfig reads internal_address_config: a list of ranges, unset or
// legacy-private.
func internalConfig(config json.RawMessage) ([]string, error) {
	switch string(config) {
	case "", `"unset"`:
		return nil, nil
	case `"legacy-private"`:
		return []string{}, nil
	}
	var list []string
	if err := json.Unmarshal(config, &list); err != nil || list == nil {
		return nil, fmt.Errorf("internal_address_config %s is none that this runner knows", config)
	}
	return list, nil
}

// An id to tell an edge request by: it is replaced there (RID-4).
const markID = "125a4afb-6f55-44ba-ad80-413f09f48a28"

func checkEdge(v parity.Vector) error {
	var in struct {
		Peer    string `json:"peer"`
		Headers fields `json:"headers"`
	}
	var config struct {
		UseRemoteAddress bool            `json:"use_remote_address"`
		TrustedHops      int             `json:"xff_num_trusted_hops"`
		Internal         json.RawMessage `json:"internal_address_config"`
		LocalAddress     *netip.Addr     `json:"local_address"`
		SkipAppend       bool            `json:"skip_xff_append"`
		ExtensionSkips   *bool           `json:"xff_extension_skip_xff_append"`
		TrustedCIDRs     []string        `json:"xff_trusted_cidrs"`
	}
	var out struct {
		ClientAddress   string       `json:"client_address"`
		Internal        bool         `json:"internal"`
		Edge            bool         `json:"edge"`
		ForwardedFor    parity.Lines `json:"x-forwarded-for"`
		ExternalAddress parity.Lines `json:"x-envoy-external-address"`
		EnvoyInternal   parity.Lines `json:"x-envoy-internal"`
	}
	if err := errors.Join(decode(v, &in, &config, &out), in.Headers.only("x-forwarded-for")); err != nil {
		return err
	}
	internal, err := internalConfig(config.Internal)
	if err != nil {
		return err
	}
	if old, err := before(v.Until, 33); err != nil {
		return err
	} else if old && internal == nil {
		internal = []string{} // ED-5: the private ranges without a setting
	}
	var proxies []netip.Prefix
	for _, cidr := range config.TrustedCIDRs {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return err
		}
		proxies = append(proxies, p)
	}
	a, err := send(parity.Case{
		Config: parity.Proxy{
			Tracer:            "none",
			UseRemoteAddress:  config.UseRemoteAddress,
			XFFNumTrustedHops: config.TrustedHops,
			InternalCIDRs:     internal,
		},
		Request: parity.Request{Peer: in.Peer, Headers: append(in.Headers.lines(), parity.Field{"x-request-id", markID})},
	}, func(cfg *middleware.Config) {
		cfg.Proxy.KeepForwardedFor = config.SkipAppend
		cfg.Proxy.AddForwardedFor = config.ExtensionSkips != nil && !*config.ExtensionSkips
		cfg.Edge.Proxies = proxies
		if config.LocalAddress != nil {
			cfg.Proxy.Address = *config.LocalAddress
		}
	})
	if err != nil {
		return err
	}
	if len(a.attempts) != 1 || len(a.attempts[0].headers["x-request-id"]) != 1 {
		return fmt.Errorf("what reached the upstream: %v", a.attempts)
	}
	got := a.attempts[0].headers
	var m mismatches
	equal(&m, "client address", a.client.String(), out.ClientAddress)
	equal(&m, "internal", len(got["x-envoy-internal"]) > 0, out.Internal)
	equal(&m, "edge", got["x-request-id"][0] != markID, out.Edge)
	compareLines(&m, nil, "x-forwarded-for", got["x-forwarded-for"], out.ForwardedFor)
	compareLines(&m, nil, "x-envoy-external-address", got["x-envoy-external-address"], out.ExternalAddress)
	compareLines(&m, nil, "x-envoy-internal", got["x-envoy-internal"], out.EnvoyInternal)
	return m.err()
}

// checkSanitising has no tracing block in the way, which would take the decorator's
// header (N-7).
func checkSanitising(v parity.Vector) error {
	var in fields
	var config struct {
		Peer             string          `json:"peer"`
		UseRemoteAddress bool            `json:"use_remote_address"`
		Internal         json.RawMessage `json:"internal_address_config"`
		InternalOnly     []string        `json:"internal_only_headers"`
		ForwardedFor     *string         `json:"x-forwarded-for"`
		AddUserAgent     string          `json:"add_user_agent"`
		NodeID           string          `json:"node_id"`
		TrustedHops      int             `json:"xff_num_trusted_hops"`
		HeaderPrefix     string          `json:"header_prefix"`
	}
	var out struct {
		Removed []string          `json:"removed"`
		Kept    []string          `json:"kept"`
		Set     map[string]string `json:"set"`
	}
	if err := decode(v, &in, &config, &out); err != nil {
		return err
	}
	internal, err := internalConfig(config.Internal)
	if err != nil {
		return err
	}
	c := parity.Case{
		Config: parity.Proxy{
			Tracer:              "none",
			UseRemoteAddress:    config.UseRemoteAddress,
			InternalCIDRs:       internal,
			InternalOnlyHeaders: config.InternalOnly,
			AddUserAgent:        config.AddUserAgent != "",
			Node:                parity.Node{Cluster: config.AddUserAgent, ID: config.NodeID, HeaderPrefix: config.HeaderPrefix},
			XFFNumTrustedHops:   config.TrustedHops,
		},
		Request: parity.Request{Peer: config.Peer, Headers: in.lines()},
	}
	if config.ForwardedFor != nil {
		c.Request.Headers = append(c.Request.Headers, parity.Field{"x-forwarded-for", *config.ForwardedFor})
	}
	a, err := send(c)
	if err != nil {
		return err
	}
	if len(a.attempts) != 1 {
		return fmt.Errorf("%d requests reached the upstream, want 1", len(a.attempts))
	}
	got := a.attempts[0].headers
	var m mismatches
	if name := "x-envoy-expected-rq-timeout-ms"; slices.Equal(got[name], parity.Lines{"15000"}) {
		delete(got, name) // the router's own, of its timeout
	}
	for _, name := range out.Removed {
		compareLines(&m, nil, name, got[name], nil)
	}
	for _, name := range out.Kept {
		compareLines(&m, nil, name, got[name], in[name])
	}
	for name, value := range out.Set {
		compareLines(&m, nil, name, got[name], parity.Lines{value})
	}
	return m.err()
}
