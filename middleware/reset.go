package middleware

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/meshtrace/meshtrace/internal/failure"
)

// Reset is why a call upstream ended before its response was whole, in Envoy's words.
// It is an error, so that a gateway's own transport can return or wrap one for what
// net/http has no error for, such as ResetOverflow of a circuit breaker. The zero value
// is none (T-10).
type Reset uint8

const (
	// ResetLocalConnectionFailure: this program could not make a connection.
	ResetLocalConnectionFailure Reset = iota + 1
	// ResetRemoteConnectionFailure: the host took no connection.
	ResetRemoteConnectionFailure
	// ResetConnectionTimeout: the connection took too long to make.
	ResetConnectionTimeout
	// ResetConnectionTermination: the connection ended before a response.
	ResetConnectionTermination
	// ResetLocal and ResetLocalRefused: this program gave the stream up.
	ResetLocal
	ResetLocalRefused
	// ResetOverflow: a circuit breaker let nothing through.
	ResetOverflow
	// ResetRemote and ResetRemoteRefused: the host reset the stream.
	ResetRemote
	ResetRemoteRefused
	// ResetConnectError: the host answered CONNECT with an error of its connection.
	ResetConnectError
	// ResetProtocolError: what came was no response.
	ResetProtocolError
	// ResetOverloadManager: this program is short of something.
	ResetOverloadManager
	// ResetPrematureHalfClose: an HTTP/1 host closed its side before the request was whole.
	ResetPrematureHalfClose
)

// resets are the texts and the response flags by Reset.
var resets = [...]struct{ text, flag string }{
	ResetLocalConnectionFailure:  {"local connection failure", FlagUpstreamConnectionFailure},
	ResetRemoteConnectionFailure: {"remote connection failure", FlagUpstreamConnectionFailure},
	ResetConnectionTimeout:       {"connection timeout", FlagUpstreamConnectionFailure},
	ResetConnectionTermination:   {"connection termination", FlagUpstreamConnectionTermination},
	ResetLocal:                   {"local reset", FlagLocalReset},
	ResetLocalRefused:            {"local refused stream reset", FlagLocalReset},
	ResetOverflow:                {"overflow", FlagUpstreamOverflow},
	ResetRemote:                  {"remote reset", FlagUpstreamRemoteReset},
	ResetRemoteRefused:           {"remote refused stream reset", FlagUpstreamRemoteReset},
	ResetConnectError:            {"remote error with CONNECT request", FlagUpstreamRemoteReset},
	ResetProtocolError:           {"protocol error", FlagUpstreamProtocolError},
	ResetOverloadManager:         {"overload manager reset", FlagOverloadManager},
	ResetPrematureHalfClose:      {"HTTP/1 premature upstream half close", FlagLocalReset},
}

// Error returns the text that Envoy's tag error.reason has for r.
func (r Reset) Error() string {
	if int(r) < len(resets) && r != 0 {
		return resets[r].text
	}
	return "unknown reset"
}

// Flag returns the response flag of r, "" for the zero value (T-7).
func (r Reset) Flag() string {
	if int(r) < len(resets) {
		return resets[r].flag
	}
	return ""
}

// The response flags that a Go proxy can know (T-7).
const (
	FlagNoHealthyUpstream             = "UH"  // the cluster has no host to send to
	FlagUpstreamConnectionFailure     = "UF"  // no connection
	FlagUpstreamConnectionTermination = "UC"  // the connection ended before a response
	FlagUpstreamRemoteReset           = "UR"  // the host reset the stream
	FlagUpstreamTimeout               = "UT"  // the route's or the attempt's time was over
	FlagUpstreamOverflow              = "UO"  // a circuit breaker
	FlagUpstreamProtocolError         = "UPE" // what came was no response
	FlagUpstreamRetryLimit            = "URX" // no further try is allowed
	FlagLocalReset                    = "LR"  // this program gave the stream up
	FlagNoRoute                       = "NR"  // no route for the request
	FlagNoCluster                     = "NC"  // the route's cluster does not exist
	FlagRateLimited                   = "RL"  // a rate limit held the request back
	FlagDelayInjected                 = "DI"  // a fault filter delayed it
	FlagFaultInjected                 = "FI"  // a fault filter refused it
	FlagOverloadManager               = "OM"  // this program is short of something
	FlagDownstreamTermination         = "DC"  // the caller's connection ended
	FlagDownstreamRemoteReset         = "DR"  // the caller reset the stream
)

// ErrPerTryTimeout is the cause by which a gateway ends one attempt whose time is over,
// and not the request:
//
//	ctx, cancel := context.WithTimeoutCause(ctx, perTry, middleware.ErrPerTryTimeout)
//
// The attempt's span is told apart by its response flag UT then. It is a
// context.DeadlineExceeded to errors.Is, and a timeout.
var ErrPerTryTimeout error = perTryTimeout{}

type perTryTimeout struct{}

func (perTryTimeout) Error() string   { return "the attempt's time is over" }
func (perTryTimeout) Timeout() bool   { return true }
func (perTryTimeout) Temporary() bool { return true }
func (perTryTimeout) Is(target error) bool {
	return target == context.DeadlineExceeded
}

// ResetOf returns what an error of an http.RoundTripper or of a response's body is in
// Envoy's words; 0 where the caller or a deadline ended the call, and for nil. An error
// that is or wraps a Reset is that.
func ResetOf(err error) Reset {
	var r Reset
	var dns *net.DNSError
	var op *net.OpError
	var stream streamError
	switch err = failure.Readable(err); {
	case err == nil:
		return 0
	case errors.As(err, &r):
		return r
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &op):
		return 0
	case errors.As(err, &stream):
		return stream.reset()
	case errors.As(err, &dns):
		return ResetLocalConnectionFailure
	case errors.As(err, &op) && op.Op == "dial":
		switch {
		case op.Timeout():
			return ResetConnectionTimeout
		case isLocal(op.Err):
			return ResetLocalConnectionFailure
		}
		return ResetRemoteConnectionFailure
	case isTLS(err):
		return ResetRemoteConnectionFailure
	}
	switch text := err.Error(); {
	case strings.Contains(text, "REFUSED_STREAM; received from peer]"), // of a request whose body was sent
		strings.Contains(text, "graceful shutdown GOAWAY"): // which tells that the stream was not looked at
		return ResetRemoteRefused
	case isEnd(err):
		return ResetConnectionTermination
	}
	return ResetProtocolError
}

// isLocal tells whether a dial failed on this side.
func isLocal(err error) bool {
	for _, e := range []error{syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.EACCES, syscall.EPERM, syscall.ENOENT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// isTLS tells whether a handshake failed.
func isTLS(err error) bool {
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	return errors.As(err, &record) || errors.As(err, &verify) || errors.As(err, &alert) || strings.Contains(err.Error(), "TLS handshake timeout")
}

// isEnd tells whether a connection ended. net/http has no values for some ways.
func isEnd(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED, net.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	text := err.Error()
	for _, part := range []string{"server closed idle connection", "http2: client connection lost", "server sent GOAWAY", "http2: client conn", "use of closed network connection", "forcibly closed", "connection reset"} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// streamError has the shape of net/http's error of an HTTP/2 stream, which lets
// errors.As fill in whatever has it.
type streamError struct {
	StreamID uint32
	Code     streamCode
	Cause    error
}

type streamCode uint32

func (e streamError) Error() string { return "stream reset" }

// reset tells a reset that came from the host from one of this side's own, which
// refuses what the host sent.
func (e streamError) reset() Reset {
	const protocol, refused, connect = 1, 7, 10
	switch {
	case e.Cause == nil || !strings.Contains(e.Cause.Error(), "received from peer"):
		return ResetProtocolError
	case e.Code == protocol:
		return ResetProtocolError
	case e.Code == refused:
		return ResetRemoteRefused
	case e.Code == connect:
		return ResetConnectError
	}
	return ResetRemote
}
