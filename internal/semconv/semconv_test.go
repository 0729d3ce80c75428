package semconv

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	otel "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// TestOpenTelemetryNames compares with the newest semconv package that the
// required version of OpenTelemetry has. No name of these groups changed between
// its version and 1.43.
func TestOpenTelemetryNames(t *testing.T) {
	for _, tt := range []struct{ got, want attribute.Key }{
		{HTTPRequestMethod, otel.HTTPRequestMethodKey},
		{HTTPRequestMethodOriginal, otel.HTTPRequestMethodOriginalKey},
		{HTTPRequestResendCount, otel.HTTPRequestResendCountKey},
		{HTTPRequestBodySize, otel.HTTPRequestBodySizeKey},
		{HTTPResponseBodySize, otel.HTTPResponseBodySizeKey},
		{HTTPResponseStatusCode, otel.HTTPResponseStatusCodeKey},
		{HTTPRoute, otel.HTTPRouteKey},
		{HTTPRequestHeaderPrefix + "x-a", otel.HTTPRequestHeader("x-a").Key},
		{HTTPResponseHeaderPrefix + "x-a", otel.HTTPResponseHeader("x-a").Key},
		{RPCSystemName, otel.RPCSystemNameKey},
		{RPCMethod, otel.RPCMethodKey},
		{RPCMethodOriginal, otel.RPCMethodOriginalKey},
		{RPCResponseStatusCode, otel.RPCResponseStatusCodeKey},
		{RPCRequestMetadataPrefix + "x-a", otel.RPCRequestMetadata("x-a").Key},
		{RPCResponseMetadataPrefix + "x-a", otel.RPCResponseMetadata("x-a").Key},
		{URLFull, otel.URLFullKey},
		{URLPath, otel.URLPathKey},
		{URLQuery, otel.URLQueryKey},
		{URLScheme, otel.URLSchemeKey},
		{URLTemplate, otel.URLTemplateKey},
		{ClientAddress, otel.ClientAddressKey},
		{ClientPort, otel.ClientPortKey},
		{ServerAddress, otel.ServerAddressKey},
		{ServerPort, otel.ServerPortKey},
		{UserAgentOriginal, otel.UserAgentOriginalKey},
		{NetworkLocalAddress, otel.NetworkLocalAddressKey},
		{NetworkLocalPort, otel.NetworkLocalPortKey},
		{NetworkPeerAddress, otel.NetworkPeerAddressKey},
		{NetworkPeerPort, otel.NetworkPeerPortKey},
		{NetworkProtocolName, otel.NetworkProtocolNameKey},
		{NetworkProtocolVersion, otel.NetworkProtocolVersionKey},
		{NetworkTransport, otel.NetworkTransportKey},
		{ErrorType, otel.ErrorTypeKey},
		{ExceptionType, otel.ExceptionTypeKey},
		{ExceptionMessage, otel.ExceptionMessageKey},
		{ExceptionStacktrace, otel.ExceptionStacktraceKey},
		{ExceptionEvent, otel.ExceptionEventName},
		{DBSystemName, otel.DBSystemNameKey},
		{DBNamespace, otel.DBNamespaceKey},
		{DBCollectionName, otel.DBCollectionNameKey},
		{DBOperationName, otel.DBOperationNameKey},
		{DBQuerySummary, otel.DBQuerySummaryKey},
		{DBQueryText, otel.DBQueryTextKey},
		{DBResponseStatusCode, otel.DBResponseStatusCodeKey},
		{ServiceName, otel.ServiceNameKey},
		{ServiceNamespace, otel.ServiceNamespaceKey},
		{ServiceVersion, otel.ServiceVersionKey},
		{ServiceInstanceID, otel.ServiceInstanceIDKey},
		{TelemetrySDKLanguage, otel.TelemetrySDKLanguageKey},
		{TelemetrySDKName, otel.TelemetrySDKNameKey},
		{TelemetrySDKVersion, otel.TelemetrySDKVersionKey},
		{TelemetryDistroName, otel.TelemetryDistroNameKey},
		{TelemetryDistroVersion, otel.TelemetryDistroVersionKey},
		{DeploymentEnvironmentName, otel.DeploymentEnvironmentNameKey},
		{ProcessPID, otel.ProcessPIDKey},
		{ProcessExecutableName, otel.ProcessExecutableNameKey},
		{ProcessRuntimeName, otel.ProcessRuntimeNameKey},
		{ProcessRuntimeVersion, otel.ProcessRuntimeVersionKey},
		{ProcessRuntimeDescription, otel.ProcessRuntimeDescriptionKey},
		{HostName, otel.HostNameKey},
		{HostArch, otel.HostArchKey},
		{OSType, otel.OSTypeKey},
		{OTelComponentName, otel.OTelComponentNameKey},
		{OTelComponentType, otel.OTelComponentTypeKey},
	} {
		if tt.got != tt.want {
			t.Errorf("name = %q, OpenTelemetry has %q", tt.got, tt.want)
		}
	}
}

// TestNames walks the constants themselves: each value stands once, and ours have
// our prefix.
func TestNames(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "semconv.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[a-z][a-z0-9_.:-]*$`)
	seen := map[string]string{}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, s := range gen.Specs {
			spec := s.(*ast.ValueSpec)
			name := spec.Names[0].Name
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if other, dup := seen[value]; dup {
				t.Errorf("%s and %s are both %q", name, other, value)
			}
			seen[value] = name
			if !form.MatchString(value) {
				t.Errorf("%s = %q, want lower case without blanks", name, value)
			}
			if strings.HasPrefix(value, "meshtrace") && !strings.HasPrefix(value, "meshtrace.") {
				t.Errorf("%s = %q, want the prefix %q", name, value, "meshtrace.")
			}
		}
	}
	if len(seen) < 80 {
		t.Errorf("found %d constants, want all of the file", len(seen))
	}
}
