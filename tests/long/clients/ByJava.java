import java.io.FileInputStream;
import java.net.Authenticator;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * GETs URLs through a proxy with Java's HttpClient. The client has no TLS to a proxy, so only host, port and password of the
 * proxy's URL are used. For Basic it also needs -Djdk.http.auth.tunneling.disabledSchemes=.
 *
 * Environment: URL (one or more, with spaces between), PROXY (left out: none), CA. The bodies go to stdout.
 */
public class ByJava {
    public static void main(String[] args) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream pem = new FileInputStream(System.getenv("CA"))) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);

        HttpClient.Builder builder = HttpClient.newBuilder().sslContext(context).connectTimeout(Duration.ofSeconds(30));
        String named = System.getenv("PROXY");
        URI proxy = named == null ? null : URI.create(named);
        if (proxy != null) {
            builder.proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())));
        }
        if (proxy != null && proxy.getUserInfo() != null) {
            String[] pair = proxy.getUserInfo().split(":", 2);
            builder.authenticator(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication(pair[0], pair[1].toCharArray());
                }
            });
        }
        HttpClient client = builder.build();
        for (String url : System.getenv("URL").split(" ")) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(60)).build();
            HttpResponse<byte[]> answer = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
            if (answer.statusCode() != 200) {
                System.err.println("status " + answer.statusCode());
                System.exit(1);
            }
            System.out.write(answer.body());
        }
        System.out.flush();
    }
}
