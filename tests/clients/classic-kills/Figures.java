import java.util.LinkedHashMap;
import java.util.Map;

/** Figures of one kind of client about one kill, by name. */
final class Figures {
    final Map<String, Double> values = new LinkedHashMap<>();

    void put(String name, double value) {
        values.put(name, value);
    }

    /** Times in seconds, counts as they are. */
    static String shown(String name, double value) {
        boolean isTime = name.equals("gap") || name.equals("longest") || name.equals("late") || name.equals("back after");
        return isTime ? String.format("%.2f s", value) : String.format("%.0f", value);
    }

    @Override
    public String toString() {
        StringBuilder text = new StringBuilder();
        values.forEach((name, value) -> text.append(text.length() == 0 ? "" : ", ").append(name).append(' ').append(shown(name, value)));
        return text.toString();
    }
}
