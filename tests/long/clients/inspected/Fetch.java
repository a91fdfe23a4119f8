import java.net.InetSocketAddress;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;

/**
 * Java's HttpClient: GETs URL, or PUTs the file UPLOAD to it. The proxy comes from HTTPS_PROXY, the authorities from the JVM's trust
 * store.
 */
public class Fetch {
    public static void main(String[] args) throws Exception {
        URI proxy = URI.create(System.getenv("HTTPS_PROXY"));
        HttpClient client = HttpClient.newBuilder()
            .proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())))
            .build();
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(System.getenv("URL")));
        String upload = System.getenv("UPLOAD");
        if (upload != null) {
            request.PUT(HttpRequest.BodyPublishers.ofFile(Path.of(upload)));
        }
        HttpResponse<String> answer = client.send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            System.err.println("status " + answer.statusCode());
            System.exit(1);
        }
        System.out.print(answer.body());
    }
}
