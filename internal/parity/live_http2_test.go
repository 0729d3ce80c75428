package parity_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/meshtrace/meshtrace/internal/parity"
)

// TestLiveOverHTTP2 puts the recorded requests about ids, addresses, decisions and trace
// headers to the gateway once more, over HTTP/2: of these Envoy's answer does not depend
// on the protocol (O-5), and net/http's reading of headers does.
func TestLiveOverHTTP2(t *testing.T) {
	path, _ := dataFile("MESHTRACE_LIVE", "envoy-live.json")
	live, err := parity.LoadLive(path)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, c := range live.Cases {
		if !slices.Contains([]string{"request_id", "edge", "decision", "w3c", "zipkin"}, c.Topic) || c.Request.GRPC || c.Request.Proto != "" {
			continue
		}
		compared++
		t.Run(c.Name, func(t *testing.T) {
			c.Request.Proto = "HTTP/2"
			err := guarded(func() error { return checkCase(c) })
			if err == nil {
				return
			}
			exempt := newTally("live", liveExemptions, liveNotYet)
			for difference := range strings.SplitSeq(err.Error(), "\n") {
				s := subject{topic: c.Topic, name: c.Name, live: &c}
				_, known := exempt.find(slices.Concat(exempt.exempt, exempt.notYet), s, difference)
				if !known && !strings.Contains(difference, " http.protocol = ") {
					t.Error(difference)
				}
			}
		})
	}
	if compared == 0 {
		t.Error("no case was compared")
	}
	t.Logf("%d cases compared", compared)
}
