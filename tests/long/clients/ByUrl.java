import java.io.InputStream;
import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.URL;

/**
 * GETs URLs with Java's HttpURLConnection, which takes the proxy from the properties https.proxyHost, http.proxyHost and so on.
 *
 * Environment: URL (one or more, with spaces between), and PROXY for its password. The bodies go to stdout.
 */
public class ByUrl {
    public static void main(String[] args) throws Exception {
        String user = URI.create(System.getenv("PROXY")).getUserInfo();
        if (user != null) {
            String[] pair = user.split(":", 2);
            Authenticator.setDefault(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    return new PasswordAuthentication(pair[0], pair[1].toCharArray());
                }
            });
        }
        for (String url : System.getenv("URL").split(" ")) {
            try (InputStream page = new URL(url).openConnection().getInputStream()) {
                page.transferTo(System.out);
            }
        }
    }
}
