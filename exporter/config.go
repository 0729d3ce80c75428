package exporter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Protocol says how requests travel.
type Protocol uint8

const (
	// Auto asks the endpoint: OTLP/gRPC first on port 4317, OTLP/HTTP first on port 4318
	// and where there is a path. Where nothing can be told by the first bytes of an
	// answer it sends a gRPC request that holds no spans.
	Auto         Protocol = iota
	GRPC                  // OTLP/gRPC, framed on HTTP/2; OTEL_EXPORTER_OTLP_PROTOCOL=grpc
	HTTPProtobuf          // OTLP/HTTP with protobuf bodies; OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
	HTTPJSON              // OTLP/HTTP with JSON bodies, about twice as large; OTEL_EXPORTER_OTLP_PROTOCOL=http/json
)

// String returns the name that OTEL_EXPORTER_OTLP_PROTOCOL has for p.
func (p Protocol) String() string {
	switch p {
	case Auto:
		return "auto"
	case GRPC:
		return "grpc"
	case HTTPProtobuf:
		return "http/protobuf"
	case HTTPJSON:
		return "http/json"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// Compression says whether requests are compressed. The zero value does not: it costs more
// processor time than everything else an Exporter does.
type Compression uint8

const (
	None Compression = iota
	Gzip
)

// String returns the name that OTEL_EXPORTER_OTLP_COMPRESSION has for c.
func (c Compression) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

// Full says what happens when the queue is full.
type Full uint8

const (
	DropNewest Full = iota // the span that just ended is dropped
	DropOldest             // the ones that waited longest are, requests in flight excepted
	Block                  // whoever ends a span waits for room, up to Config.Block; then that span is dropped
)

// String returns the constant's name.
func (f Full) String() string {
	switch f {
	case DropNewest:
		return "DropNewest"
	case DropOldest:
		return "DropOldest"
	case Block:
		return "Block"
	}
	return fmt.Sprintf("Full(%d)", uint8(f))
}

// Defaults and bounds of Config.
const (
	defaultTimeout      = 10 * time.Second
	defaultQueueBytes   = 64 << 20
	defaultDelay        = time.Second
	defaultRequestBytes = 4<<20 - 64<<10 // gRPC servers take 4 MiB
	defaultInFlight     = 4
	defaultBlock        = time.Second

	maxTimeout      = time.Hour
	minQueueBytes   = 64 << 10
	maxQueueBytes   = 1 << 40
	maxDelay        = time.Hour
	minRequestBytes = 4 << 10
	maxRequestBytes = 64 << 20 // OTLP's limit for a request
	maxInFlight     = 256
	maxBlock        = time.Minute
	maxHeaders      = 64
	maxHeaderBytes  = 32 << 10
)

// Config is what the program says. The zero value sends to a collector on this
// machine. OTEL_* variables are the deployment's word and win over it, each as
// OpenTelemetry's "OTLP Exporter" and "Batch Span Processor" pages define it; the
// OTEL_EXPORTER_OTLP_TRACES_* form wins over the general one. [Exporter.Settings]
// says what came from where. A Sender is never displaced by a variable.
type Config struct {
	// Endpoint is where the collector listens: host:port, ip:port, [::1]:port,
	// http://…, https://…, unix:path, at most 2,048 bytes. "": port 4318 on
	// localhost, 4317 with GRPC.
	//
	// file:path appends OTLP/JSON lines to that file, as a Collector's otlpjsonfile
	// receiver reads them, in place of sending anything; see [JSONLines].
	//
	// OTLP/HTTP posts to the path it has with /v1/traces added unless it ends so;
	// OTLP/gRPC has a path of its own. The URL of OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is
	// used as it is.
	//
	// Without a scheme it is plaintext where no public certificate can exist:
	// loopback, private and link-local addresses, names without a dot, and names under
	// .svc, .local, .localhost, .internal and .test; TLS for all others, and wherever
	// TLS or a certificate variable is given. OTEL_EXPORTER_OTLP_INSECURE decides otherwise.
	Endpoint string

	// Protocol is OTLP/gRPC or OTLP/HTTP; both go over net/http.
	Protocol Protocol

	// Headers go with each request: tokens, tenants. At most 64 and 32 KiB. They are
	// never logged and never follow a redirect. OTEL_EXPORTER_OTLP_HEADERS replaces them all.
	Headers map[string]string

	// HeaderFunc gives headers that change, as tokens do; they go with each request
	// besides Headers and win over them, within the same bounds. It is asked before a
	// request, at most once a second and never concurrently; ctx is that request's.
	// While it fails, or panics, the spans are kept. Its error is logged: it should hold
	// no secret.
	HeaderFunc func(ctx context.Context) (map[string]string, error)

	// TLS is for https endpoints; nil is the system's roots and TLS 1.2 or later.
	// It is cloned. Variables for certificates are added to it; their files are read
	// again when they change.
	TLS *tls.Config

	// Client sends the requests instead of a client of the Exporter's own; it is the
	// caller's to close. Redirects are not followed whatever it says. For GRPC its
	// Transport must speak HTTP/2, over plaintext too where there is no TLS
	// (http.Protocols.SetUnencryptedHTTP2). It has TLS and proxies of its own, so that
	// Config.TLS beside it is a mistake; unix endpoints are its business as well.
	Client *http.Client

	Compression Compression

	// Timeout bounds one request; 0 is 10 s, at most 1 h. The shorter of
	// OTEL_EXPORTER_OTLP_TIMEOUT and OTEL_BSP_EXPORT_TIMEOUT replaces it.
	Timeout time.Duration

	// QueueBytes bounds the memory of spans that are not delivered yet; 0 is 64 MiB,
	// at least 64 KiB, at most 1 TiB. Memory is taken as it is needed and given back
	// after a burst. OTEL_BSP_MAX_QUEUE_SIZE bounds the number of spans as well.
	QueueBytes int64

	// Full says what happens when the queue is full.
	Full Full

	// Block is the longest that ending a span waits under Full's Block; 0 is 1 s, at
	// most 1 min. Elsewhere it has no meaning.
	Block time.Duration

	// Delay is how long a span waits for company; 0 is 1 s, at most 1 h.
	// OTEL_BSP_SCHEDULE_DELAY replaces it. The first span waits at most 100 ms, so that
	// a mistake is told soon.
	Delay time.Duration

	// RequestBytes bounds a request before compression; 0 is 4 MiB - 64 KiB, from
	// 4 KiB to 64 MiB. A span that is larger alone is cut, or dropped.
	// OTEL_BSP_MAX_EXPORT_BATCH_SIZE bounds the number of spans as well.
	RequestBytes int

	// InFlight is how many requests may be under way at once; 0 is 4, at most 256.
	// While the collector does not answer it is one.
	InFlight int

	// Sender replaces the transport, which is Endpoint to Timeout. The Exporter closes it.
	Sender Sender

	// Logger gets the few lines that an Exporter has to say: where spans go, what is
	// wrong with the collector and what to change, spans being lost, and the end of both.
	// nil: slog.Default().
	Logger *slog.Logger

	// MeterProvider gets the otel.sdk.span, otel.sdk.processor.span and
	// otel.sdk.exporter metrics of OpenTelemetry's semantic conventions; nil: none. They
	// are read from Stats when they are collected, so that spans pay nothing for them.
	MeterProvider metric.MeterProvider

	// Getenv reads variables, also those of proxies; nil is os.Getenv. One that returns
	// "" shuts the environment out.
	Getenv func(string) string

	dial dialer // of tests; nil: net.Dialer
}

// dialer makes connections.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// check reports every mistake in c.
func (c *Config) check() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("exporter: Config.%s is %v: allowed is %s", field, value, allowed))
	}
	if c.Sender == nil && c.Endpoint != "" {
		if _, err := parseEndpoint(c.Endpoint); err != nil {
			bad("Endpoint", fmt.Sprintf("%q (%v)", redactURL(c.Endpoint), err), allowedEndpoint)
		}
	}
	if c.Protocol > HTTPJSON {
		bad("Protocol", c.Protocol, "Auto, GRPC, HTTPProtobuf, HTTPJSON")
	}
	if _, err := checkHeaders(c.Headers); err != nil {
		bad("Headers", err, allowedHeaders)
	}
	if c.Client != nil && c.TLS != nil {
		bad("TLS", "set", "nil beside Client, whose Transport has TLS of its own")
	}
	if c.Compression > Gzip {
		bad("Compression", c.Compression, "None, Gzip")
	}
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		bad("Timeout", c.Timeout, "0 to 1h")
	}
	if c.QueueBytes != 0 && (c.QueueBytes < minQueueBytes || c.QueueBytes > maxQueueBytes) {
		bad("QueueBytes", c.QueueBytes, fmt.Sprintf("0, or %d to %d", int64(minQueueBytes), int64(maxQueueBytes)))
	}
	if c.Full > Block {
		bad("Full", c.Full, "DropNewest, DropOldest, Block")
	}
	if c.Block < 0 || c.Block > maxBlock {
		bad("Block", c.Block, "0 to 1m")
	}
	if c.Delay < 0 || c.Delay > maxDelay {
		bad("Delay", c.Delay, "0 to 1h")
	}
	if c.RequestBytes != 0 && (c.RequestBytes < minRequestBytes || c.RequestBytes > maxRequestBytes) {
		bad("RequestBytes", c.RequestBytes, fmt.Sprintf("0, or %d to %d", minRequestBytes, maxRequestBytes))
	}
	if c.InFlight < 0 || c.InFlight > maxInFlight {
		bad("InFlight", c.InFlight, fmt.Sprintf("0 to %d", maxInFlight))
	}
	return errors.Join(errs...)
}
