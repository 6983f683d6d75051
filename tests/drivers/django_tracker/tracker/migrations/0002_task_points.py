from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tracker", "0001_initial")]
    operations = [
        migrations.AddField(model_name="task", name="points", field=models.IntegerField(default=1)),
        migrations.AddIndex(model_name="task", index=models.Index(fields=["points"], name="task_points")),
        migrations.RemoveIndex(model_name="task", name="task_points"),
    ]
