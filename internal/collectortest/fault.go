package collectortest

import (
	"net"
	"net/http"
	"time"

	"github.com/meshtrace/meshtrace/internal/otlpreceiver"
)

// Fault is how a collector misbehaves. Delay goes with any other; of the rest the
// first one set counts. The zero value is a healthy collector.
type Fault struct {
	Delay   time.Duration         // before the answer
	Hang    bool                  // no answer, until the client gives up or Set is called
	Reset   bool                  // the connection is reset, all calls on it with it
	Cut     bool                  // the connection is closed in order, but without an answer
	Refusal *otlpreceiver.Refusal // an error of the protocol
	Answer  []byte                // acknowledged by these bytes in place of an ExportTraceServiceResponse
	Reject  int                   // so many spans of a request, the last ones, are refused for good: partial success
	Why     string                // the words that go with Reject; alone they are a warning
	GoAway  bool                  // goes with any other: after the answer the connection is closed

	// Recorded takes the spans before Hang, Reset, Cut or Refusal: an
	// acknowledgement is lost. The others always take them.
	Recorded bool
	// Requests is how many requests meet the fault, 0 for all until Set is called.
	Requests int
}

// Throttle refuses by 503 and UNAVAILABLE and asks for the request again after d.
func Throttle(d time.Duration) Fault {
	return Fault{Refusal: &otlpreceiver.Refusal{Message: "throttled", RetryAfter: d}}
}

// Status refuses by a status of OTLP/HTTP and a code of OTLP/gRPC.
func Status(status int, code otlpreceiver.Code) Fault {
	return Fault{Refusal: &otlpreceiver.Refusal{Status: status, Code: code, Message: "refused by a test"}}
}

// Set puts f in place of the fault before; the zero Fault heals. Hanging requests end
// without an answer.
func (c *Collector) Set(f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault, c.left = f, f.Requests
	close(c.healed)
	c.healed = make(chan struct{})
}

// met returns the fault that a request meets, and what ends its hanging.
func (c *Collector) met() (f Fault, healed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, healed = c.fault, c.healed
	if c.left > 0 {
		if c.left--; c.left == 0 {
			c.fault = Fault{}
		}
	}
	return f, healed
}

func (f *Fault) failing() bool { return f.Hang || f.Reset || f.Cut || f.Refusal != nil }

// accept is given the request that r brought.
func (c *Collector) accept(r *http.Request, request []byte) error {
	f, healed := c.met()
	n, err := c.arrived(r, request, &f)
	if err != nil {
		return err
	}
	if f.failing() && f.Recorded {
		c.record(request, n)
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-c.done:
		}
	}
	switch {
	case f.Hang:
		select {
		case <-healed:
		case <-c.done:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case f.Reset || f.Cut:
		drop(r, f.Reset)
		panic(http.ErrAbortHandler)
	case f.Refusal != nil:
		return f.Refusal
	case f.Answer != nil:
		c.record(request, n)
		return &otlpreceiver.Answer{Message: f.Answer}
	}
	rejected := min(f.Reject, n)
	c.record(request, n-rejected)
	if rejected > 0 || f.Why != "" {
		return otlpreceiver.Partial(int64(rejected), f.Why)
	}
	return nil
}

// drop ends the connection under r, with reset by an RST. Else only its sending half is
// closed: closing both resets it too when something is left to be read.
func drop(r *http.Request, reset bool) {
	conn := r.Context().Value(connKey{}).(net.Conn)
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = t.NetConn()
	}
	t, ok := conn.(*net.TCPConn)
	switch {
	case !ok:
		_ = conn.Close()
	case reset:
		_ = t.SetLinger(0)
		_ = t.Close()
	default:
		_ = t.CloseWrite()
	}
}
