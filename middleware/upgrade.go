package middleware

import (
	"maps"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/meshtrace/meshtrace/internal/semconv"
)

// upgrade is the answer of an upstream that switches protocols, with what a gateway
// writes into it. httputil.ReverseProxy takes over the connection of the caller and
// sends such an answer by itself, so it is edited where it comes from.
type upgrade struct {
	header    http.Header // as it goes to the caller
	operation string      // the callee's own name of it; "" is none (N-12)
	at        time.Time
}

// relay edits a response of an attempt, should it be one that no ResponseWriter will
// see. The attempt keeps what the upstream sent. It may be on any goroutine.
func (p *proxied) relay(resp *http.Response) {
	if p == nil || p.served == nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	u := &upgrade{header: maps.Clone(resp.Header), at: time.Now()}
	if u.header == nil {
		u.header = make(http.Header)
	}
	u.operation = p.served.editResponse(u.header)
	resp.Header = u.header
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upgrade = u
}

// relayed returns the last answer that relay edited; nil when there is none.
func (p *proxied) relayed() *upgrade {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upgrade
}

// upgraded notes of an answer that went to the caller by itself what respond notes of
// the others.
func (c *httpCall) upgraded(u *upgrade) {
	c.calledBack(u.operation)
	p := c.gateway
	p.answered, p.firstSent = u.header, u.at
	p.before = grpcLinesOf(u.header)
	p.status.read(u.header["Grpc-Status"], u.header["Grpc-Message"])
	if c.recording() {
		if c.tracing.firstByte {
			c.Call.span.AddEvent(semconv.FirstByteEvent, trace.WithTimestamp(u.at))
		}
		c.captureResponse(u.header)
	}
}
